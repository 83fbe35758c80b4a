"""Encodes the inputs of a request: what stands around texts, truncation, padding, offsets."""

from __future__ import annotations

import copy
import dataclasses
from itertools import accumulate

from quintet.tokenization.v1 import tokenization_pb2 as pb

from .errors import Checks, invalid
from .limits import MAX_INPUTS, MAX_MULTIPLE, MAX_TEXT_BYTES, MAX_TOKENS
from .tokenizer import Tokenizer, Tokens

# A piece of an input: the tokens of its first and of its second text.
Piece = tuple[range, range]


def texts(inputs: list[pb.EncodeInput]) -> list[tuple[str, str | None]]:
    """The texts of inputs, each with the second of a pair."""
    checks = Checks()
    checks.require(1 <= len(inputs) <= MAX_INPUTS, "inputs", f"{len(inputs)} inputs: must be 1 to {MAX_INPUTS}")
    for index, given in enumerate(inputs):
        members = {"text": len(given.text.encode()), "pair": len(given.pair.encode()), "raw_text": len(given.raw_text)}
        for member, length in members.items():
            checks.require(length <= MAX_TEXT_BYTES, f"inputs[{index}].{member}", f"{length} bytes: must be at most {MAX_TEXT_BYTES}")
        alone = not (given.HasField("raw_text") and given.text)
        checks.require(alone, f"inputs[{index}].raw_text", f"{members['text']} bytes of text are given beside it")
    checks.finish()
    return [
        (
            given.raw_text.decode("utf-8", "replace") if given.HasField("raw_text") else given.text,
            given.pair if given.HasField("pair") else None,
        )
        for given in inputs
    ]


def check_policy(policy: int, checks: Checks) -> None:
    checks.require(policy in pb.SpecialTokenPolicy.values(), "special_tokens", f"{policy}: no such policy; 0 to 3 are known")


def check_allowed(request: pb.EncodeRequest, tokenizer: Tokenizer, checks: Checks) -> None:
    token, field = request.allowed_special_token, "allowed_special_token"
    if token:
        as_text = request.special_tokens not in (pb.SPECIAL_TOKEN_POLICY_ALLOW, pb.SPECIAL_TOKEN_POLICY_REFUSE)
        checks.require(as_text, field, "it goes with the policy AS_TEXT alone")
        checks.require(not request.return_offsets, field, "it does not go with return_offsets")
        checks.require(token in tokenizer.specials.values(), field, f"{token[:64]!r}: the tokenizer has no such special token")


def check_truncation(cut: pb.Truncation, pairs: bool, checks: Checks) -> None:
    longest_first = cut.strategy in (pb.TRUNCATION_STRATEGY_UNSPECIFIED, pb.TRUNCATION_STRATEGY_LONGEST_FIRST)
    checks.require(cut.max_tokens >= 1, "truncation.max_tokens", "0: must be at least 1")
    checks.require(cut.side in pb.TruncationSide.values(), "truncation.side", f"{cut.side}: no such side; 0 to 2 are known")
    known = cut.strategy in pb.TruncationStrategy.values()
    checks.require(known, "truncation.strategy", f"{cut.strategy}: no such strategy; 0 to 3 are known")
    in_pieces = not (cut.return_overflow and pairs and longest_first)
    checks.require(in_pieces, "truncation.strategy", "the pieces of a pair need a strategy that cuts one text: ONLY_FIRST or ONLY_SECOND")
    checks.require(cut.stride == 0 or cut.return_overflow, "truncation.stride", f"{cut.stride}: return_overflow is not set")
    checks.require(
        cut.stride < max(cut.max_tokens, 1), "truncation.stride", f"{cut.stride}: must be less than truncation.max_tokens, {cut.max_tokens}"
    )


def check_padding(padding: pb.Padding, tokenizer: Tokenizer, checks: Checks) -> None:
    checks.require(padding.multiple_of <= MAX_MULTIPLE, "padding.multiple_of", f"{padding.multiple_of}: must be at most {MAX_MULTIPLE}")
    checks.require(padding.min_tokens <= MAX_TOKENS, "padding.min_tokens", f"{padding.min_tokens}: must be at most {MAX_TOKENS}")
    checks.require(padding.side in pb.PaddingSide.values(), "padding.side", f"{padding.side}: no such side; 0 to 2 are known")
    if padding.HasField("pad_id"):
        known = padding.pad_id < tokenizer.size
        checks.require(known, "padding.pad_id", f"{padding.pad_id}: must be below the vocabulary's size, {tokenizer.size}")
    else:
        checks.require(
            tokenizer.pad_id is not None, "padding.pad_id", "absent: the tokenizer has no padding token of its own, so one must be given"
        )


def encode(tokenizer: Tokenizer, request: pb.EncodeRequest) -> list[pb.Encoding]:
    """The encodings of a request's inputs."""
    checks = Checks()
    check_policy(request.special_tokens, checks)
    check_allowed(request, tokenizer, checks)
    pairs = any(given.HasField("pair") for given in request.inputs)
    if request.HasField("truncation"):
        check_truncation(request.truncation, pairs, checks)
    if request.HasField("padding"):
        check_padding(request.padding, tokenizer, checks)
    checks.finish()

    encodings = [_encode_one(tokenizer, request, index, *given, pairs) for index, given in enumerate(texts(list(request.inputs)))]
    rows = [row for encoding in encodings for row in (encoding, *encoding.overflow)]
    longest = max(len(row.ids) for row in rows)
    length = longest
    if request.HasField("padding"):
        multiple = max(request.padding.multiple_of, 1)
        length = -(-max(longest, request.padding.min_tokens) // multiple) * multiple
    total = length * len(rows) if request.HasField("padding") else sum(len(row.ids) for row in rows)
    if total > MAX_TOKENS:
        raise invalid("inputs", f"the encodings have {total} tokens, padding included: {MAX_TOKENS} is the limit")
    if request.HasField("padding"):
        for row in rows:
            _pad(row, length, tokenizer, request, pairs)
    return encodings


def count(tokenizer: Tokenizer, inputs: list[tuple[str, str | None]], add_special_tokens: bool) -> list[int]:
    """How many tokens each input has."""
    counts = []
    for index, (text, pair) in enumerate(inputs):
        own = len(tokenizer.encode(text, False).ids) + (0 if pair is None else len(tokenizer.encode(pair, False).ids))
        counts.append(own + _added(_frame(tokenizer, pair is not None, add_special_tokens, index)))
    return counts


def _frame(tokenizer: Tokenizer, pair: bool, add_special_tokens: bool, index: int):
    frame = tokenizer.frame(pair, add_special_tokens)
    if frame is None:
        raise invalid(f"inputs[{index}]", "the tokenizer does not take it: its post-processor does not take each text just once")
    return frame


def _added(frame) -> int:
    return sum(part.added is not None for part in frame)


def _encode_one(tokenizer: Tokenizer, request: pb.EncodeRequest, index: int, text: str, pair: str | None, pairs: bool) -> pb.Encoding:
    if request.special_tokens == pb.SPECIAL_TOKEN_POLICY_REFUSE:
        for member, given in [("text", text), ("pair", pair or "")]:
            found = tokenizer.find_special(given)
            if found is not None:
                at, special = found
                raise invalid(
                    f"inputs[{index}].{member}", f"it spells the special token {special!r} at byte {at}, and special_tokens is REFUSE"
                )
    allow = request.special_tokens == pb.SPECIAL_TOKEN_POLICY_ALLOW
    # The one that texts may spell where they may spell no other.
    allowed = next((id for id, content in tokenizer.specials.items() if content == request.allowed_special_token), None)
    read = lambda text: tokenizer.encode(text, allow) if allowed is None else tokenizer.encode_with(text, allowed)  # noqa: E731
    add = request.add_special_tokens if request.HasField("add_special_tokens") else True
    frame = _frame(tokenizer, pair is not None, add, index)
    members = [read(text), Tokens([], []) if pair is None else read(pair)]
    lengths = [len(member.ids) for member in members]
    pieces = [(range(lengths[0]), range(lengths[1]))]
    if request.HasField("truncation"):
        left = request.truncation.side == pb.TRUNCATION_SIDE_LEFT or (request.truncation.side == 0 and tokenizer.cuts_left)
        pieces = Cut(request.truncation, left, _added(frame)).pieces(lengths[0], lengths[1])
    places = [_places(text, members[0]), _places(pair or "", members[1])] if request.return_offsets else None

    def lay(piece: Piece) -> pb.Encoding:
        encoding = pb.Encoding()
        for part in frame:
            if part.added is None:
                tokens = piece[part.member]
                encoding.ids.extend(members[part.member].ids[tokens.start : tokens.stop])
                length, special = len(tokens), 0
                spans = places[part.member][tokens.start : tokens.stop] if places else []
            else:
                encoding.ids.append(part.added)
                length, special = 1, 1
                spans = [((0, 0), (0, 0))] if places else []
            if pairs:
                encoding.type_ids.extend([part.type_id] * length)
            if request.return_special_tokens_mask:
                encoding.special_tokens_mask.extend([special] * length)
            for in_bytes, in_characters in spans:
                encoding.byte_offsets.add(start=in_bytes[0], end=in_bytes[1])
                encoding.char_offsets.add(start=in_characters[0], end=in_characters[1])
        return encoding

    kept = lay(pieces[0])
    kept.truncated_tokens = sum(lengths) + _added(frame) - len(kept.ids)
    if request.truncation.return_overflow:
        kept.overflow.extend(map(lay, pieces[1:]))
    return kept


def _places(text: str, tokens: Tokens) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where tokens stand, in bytes and in characters."""
    at = list(accumulate((len(character.encode()) for character in text), initial=0))
    return [((at[start], at[end]), (start, end)) for start, end in tokens.offsets]


@dataclasses.dataclass(frozen=True)
class Cut:
    """Cuts long inputs."""

    truncation: pb.Truncation
    left: bool
    # How many tokens stand around the texts.
    added: int

    def pieces(self, first: int, second: int) -> list[Piece]:
        """The pieces of an input whose texts have so many tokens, the kept one first."""
        most = self.truncation.max_tokens
        if first + second + self.added <= most:
            return [(range(first), range(second))]
        budget = most - self.added
        if budget < 0:
            raise invalid("truncation.max_tokens", f"{most} leaves no room for the {self.added} special tokens that the tokenizer adds")
        if self.truncation.strategy == pb.TRUNCATION_STRATEGY_ONLY_SECOND:
            return [(range(first), window) for window in self._windows(second, self._room(budget, first, "first"))]
        if self.truncation.strategy == pb.TRUNCATION_STRATEGY_ONLY_FIRST or second == 0:
            return [(window, range(second)) for window in self._windows(first, self._room(budget, second, "second"))]
        short, long = min(first, second), max(first, second)
        # The odd token goes to the longer one, and to the second of two equal ones, as transformers has it.
        short, long = (short, min(long, budget - short)) if 2 * short <= budget else (budget // 2, budget - budget // 2)
        kept = (short, long) if first <= second else (long, short)
        return [(self._part(first, kept[0]), self._part(second, kept[1]))]

    def _room(self, budget: int, whole: int, which: str) -> int:
        if budget - whole > 0 or (budget == whole == 0):
            return budget - whole
        raise invalid("truncation.strategy", f"the {which} text alone has {whole} tokens, and it is not to be cut")

    def _part(self, length: int, keep: int) -> range:
        cut = max(length - keep, 0)
        return range(cut, length) if self.left else range(length - cut)

    def _windows(self, length: int, size: int) -> list[range]:
        if not self.truncation.return_overflow:
            return [self._part(length, size)]
        step = size - self.truncation.stride
        if step <= 0:
            raise invalid(
                "truncation.stride", f"{self.truncation.stride} tokens repeated leave no room in pieces of {size}, added tokens not counted"
            )
        starts = range(0, max(length - size, 0) + step, step)
        if len(starts) * size > MAX_TOKENS:
            reason = f"{length} tokens in {len(starts)} pieces of {size} are more than an answer holds: {MAX_TOKENS} is the limit"
            raise invalid("truncation.max_tokens", reason)
        windows = [range(start, min(start + size, length)) for start in starts]
        return [range(length - window.stop, length - window.start) for window in windows] if self.left else windows


def _pad(row: pb.Encoding, length: int, tokenizer: Tokenizer, request: pb.EncodeRequest, pairs: bool) -> None:
    padding = request.padding
    fill = length - len(row.ids)
    left = padding.side == pb.PADDING_SIDE_LEFT or (padding.side == 0 and tokenizer.pads_left)
    pad_id = padding.pad_id if padding.HasField("pad_id") else tokenizer.pad_id

    def grow(values, filler) -> None:
        own = copy.deepcopy(list(values))
        del values[:]
        values.extend([filler] * fill + own if left else own + [filler] * fill)

    row.attention_mask.extend([1] * len(row.ids))
    grow(row.attention_mask, 0)
    grow(row.ids, pad_id)
    if pairs:
        grow(row.type_ids, 0)
    if request.return_special_tokens_mask:
        grow(row.special_tokens_mask, 1)
    if request.return_offsets:
        grow(row.byte_offsets, pb.Span())
        grow(row.char_offsets, pb.Span())
