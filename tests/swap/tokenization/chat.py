"""Chat templates: how a conversation is written down for the model that was trained on that writing.

They are Jinja programs that come with a tokenizer, and are run as transformers runs them.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes

from .errors import invalid

# Names of single special tokens in tokenizer_config.json, which templates see as variables.
SPECIAL_TOKENS = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]

# What begins and ends a {% generation %} block in what a template has written: noncharacters, which text that is interchanged has not.
BEGIN, END = "\U0003fffe", "\U0003ffff"


class Raised(Exception):
    """A template called raise_exception."""


class Generation(jinja2.ext.Extension):
    """The block {% generation %}: what the assistant says, as training masks need it."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("enclose"), [], [], body).set_lineno(line)

    def enclose(self, caller: Any) -> str:
        return f"{BEGIN}{caller()}{END}"


def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    """The filter tojson as transformers has it: nothing is escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(reason: str) -> None:
    raise Raised(reason)


@dataclasses.dataclass
class Written:
    """A conversation, written down."""

    template: str
    text: str
    # The parts that the assistant says, in characters.
    generation: list[tuple[int, int]]


class Templates:
    """The chat templates of a tokenizer."""

    def __init__(self, config: dict[str, Any], folder: pathlib.Path) -> None:
        given = config.get("chat_template") or {}
        sources = {"default": given} if isinstance(given, str) else {}
        if isinstance(given, list):
            sources = {entry["name"]: entry["template"] for entry in given}
        file = folder / "chat_template.jinja"
        if file.is_file():
            sources["default"] = file.read_text()
        sources |= {path.stem: path.read_text() for path in (folder / "additional_chat_templates").glob("*.jinja")}

        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = to_json
        environment.globals["raise_exception"] = raise_exception
        self._templates = {name: environment.from_string(source) for name, source in sorted(sources.items())}
        tokens = {name: config.get(name) for name in SPECIAL_TOKENS}
        self._special_tokens = {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items() if token}

    @property
    def names(self) -> list[str]:
        return list(self._templates)

    def apply(self, name: str, variables: dict[str, Any], now: float, continue_final_message: bool) -> Written:
        """Writes a conversation down with the template of this name; empty = as transformers picks one."""
        if not name:
            name = "tool_use" if variables.get("tools") and "tool_use" in self._templates else "default"
        template = self._templates.get(name)
        if template is None:
            raise invalid("template", f"'{name}': there are {', '.join(self._templates)}")
        clock = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
        try:
            marked = template.render(**self._special_tokens, **variables, strftime_now=clock.strftime)
        except (Raised, jinja2.TemplateError) as fault:
            raise invalid("messages", f"the template refuses them: {fault}") from fault
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as fault:
            raise invalid("messages", f"the template cannot write them: {fault}") from fault
        if continue_final_message:
            marked = left_open(marked, variables["messages"][-1])
        text, generation = taken_off(marked)
        return Written(name, text, generation)


def left_open(text: str, message: dict[str, Any]) -> str:
    """A conversation's text without what its template writes behind the last message."""
    content = message.get("content", "")
    if isinstance(content, list):
        content = next((part["text"] for part in reversed(content) if part.get("text")), "")
    bare = content.strip()
    at = text.rfind(bare) if bare else -1
    if at < 0:
        raise invalid("continue_final_message", "the template does not write the last message as it is")
    kept = content.lstrip()
    return text[: at + len(kept)] if text[at : at + len(kept)] == kept else text[: at + len(bare)]


def taken_off(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """Text without the marks of blocks, and where the blocks stood in it."""
    text: list[str] = []
    spans: list[tuple[int, int]] = []
    length, begun = 0, None
    for character in marked:
        if character == BEGIN:
            begun = length
        elif character == END:
            spans += [] if begun is None else [(begun, length)]
            begun = None
        else:
            text.append(character)
            length += 1
    # A message that is left open may be what the assistant says.
    return "".join(text), spans + ([] if begun is None else [(begun, length)])


class Marks:
    """Keeps what a user spells apart from what a template writes: special tokens in a conversation are replaced before it is written
    down, and come back afterwards as text."""

    # Private characters; a conversation that has them itself is refused.
    FIRST, LAST = 0xF0000, 0xFFFFD

    def __init__(self, specials: list[str]) -> None:
        self._specials = sorted(specials, key=len, reverse=True)
        self.restore: dict[str, str] = {}
        self._marks: dict[str, str] = {}

    def mark(self, value: Any) -> Any:
        """A value of a conversation with every special token in it replaced."""
        if isinstance(value, dict):
            return {self.mark(key): self.mark(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.mark(inner) for inner in value]
        if not isinstance(value, str):
            return value
        if any(self.FIRST <= ord(character) <= self.LAST or character in (BEGIN, END) for character in value):
            raise invalid("messages", "they have private characters of plane 15 or noncharacters, which are not taken here")
        for special in self._specials:
            if special in value:
                mark = self._marks.setdefault(special, chr(self.FIRST + len(self._marks)))
                self.restore[mark] = special
                value = value.replace(special, mark)
        return value

    def restored(self, text: str) -> str:
        return text.translate(str.maketrans(self.restore))


def refuse_specials(value: Any, field: str, find: Any) -> None:
    """Refuses a value that spells a special token."""
    if isinstance(value, dict):
        for key, inner in value.items():
            refuse_specials(key, field, find)
            refuse_specials(inner, field, find)
    elif isinstance(value, list):
        for inner in value:
            refuse_specials(inner, field, find)
    elif isinstance(value, str) and (found := find(value)) is not None:
        raise invalid(field, f"it spells the special token {found[1]!r}, and special_tokens is REFUSE")
