"""Trains the model that restores case and punctuation on what `prepare.py` wrote, against the clock; saves a Hugging Face checkpoint.

    python scripts/train/restore/train.py --device cuda --seconds 250

The learning rate follows the time, so that any budget ends annealed; what is saved is the best checkpoint by validation loss.
"""

from __future__ import annotations

import time

BEGUN = time.monotonic()

import argparse  # noqa: E402
import json  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from torch.nn import functional as F  # noqa: E402

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from annealing import Best, Clock, Optimizers  # noqa: E402

PAD, END = "<pad>", "</s>"
# As in prepare.py.
MAX_TOKENS = 144


class Pairs:
    """Stripped texts and what they came from, as padded ids on the device."""

    def __init__(self, arrays: dict[str, numpy.ndarray], device: str):
        self.lengths = numpy.stack([arrays["source_lengths"], arrays["target_lengths"]], 1).astype("i8")
        sides = zip(("source", "target"), self.lengths.T)
        self.sources, self.targets = (self._padded(arrays[side], lengths, device) for side, lengths in sides)

    @staticmethod
    def _padded(ids: numpy.ndarray, lengths: numpy.ndarray, device: str) -> torch.Tensor:
        table = numpy.zeros((len(lengths), MAX_TOKENS), "i2")
        table[numpy.arange(MAX_TOKENS) < lengths[:, None]] = ids
        return torch.from_numpy(table).to(device)

    def batches(self, tokens: int, draw: numpy.random.Generator) -> Iterator[dict[str, torch.Tensor]]:
        """Each pair once, with others of about its length, so many tokens at a time."""
        order = numpy.argsort(self.lengths[:, 1] + draw.uniform(0, 6, len(self.lengths)))
        cuts = [0]
        while cuts[-1] < len(order):
            cuts.append(cuts[-1] + max(1, int(tokens // (self.lengths[order[cuts[-1]], 1] + 6))))
        for index in draw.permutation(len(cuts) - 1):
            yield self.batch(order[cuts[index] : cuts[index + 1]])

    def batch(self, rows: numpy.ndarray) -> dict[str, torch.Tensor]:
        """Input ids and mask, the decoder's input, and labels, -100 where there is padding."""
        chosen = torch.from_numpy(rows).to(self.sources.device)
        source, target = self.lengths[rows].max(0)
        input_ids, labels = self.sources[chosen, :source].long(), self.targets[chosen, :target].long()
        shifted, mask = F.pad(labels[:, :-1], (1, 0)), (input_ids != 0).long()
        labels = labels.masked_fill(labels == 0, -100)
        return {"input_ids": input_ids, "attention_mask": mask, "decoder_input_ids": shifted, "labels": labels}


def new_model(options: argparse.Namespace, vocabulary: int) -> transformers.T5ForConditionalGeneration:
    config = transformers.T5Config(
        vocab_size=vocabulary, d_model=options.width, d_kv=32, num_heads=options.width // 32, d_ff=options.feed_forward,
        num_layers=options.encoder_layers, num_decoder_layers=options.decoder_layers, feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=32, relative_attention_max_distance=128, dropout_rate=options.dropout, n_positions=MAX_TOKENS,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    # What follows each residual is small at first, so that the sum keeps its size.
    for name, parameter in model.named_parameters():
        if name == "shared.weight" or name.endswith((".o.weight", ".wo.weight")):
            parameter.data.mul_(0.3)
    return model


def loss_of(model, batch: dict[str, torch.Tensor], reduction: str = "mean") -> torch.Tensor:
    """Nats a token."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with torch.autocast(batch["labels"].device.type, dtype=torch.bfloat16):
        logits = model(**inputs, use_cache=False).logits
    return F.cross_entropy(logits.float().flatten(0, 1), batch["labels"].flatten(), ignore_index=-100, reduction=reduction)


@torch.no_grad()
def validate(model, parts: dict[str, Pairs], tokens: int) -> dict[str, float]:
    """Nats a token of each source's validation part, with the truth before each token given."""
    model.eval()
    losses = {}
    for name, part in parts.items():
        total = sum(loss_of(model, batch, "sum") for batch in part.batches(tokens, numpy.random.default_rng(0)))
        losses[name] = float(total) / int(part.lengths[:, 1].sum())
    model.train()
    return losses


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=7200, help="by the wall clock, all told")
    arguments.add_argument("--reserve", type=float, default=10, help="of these, for saving")
    arguments.add_argument("--resume", action="store_true", help="from the checkpoint that is there, with fresh optimizers")
    arguments.add_argument("--batch-tokens", type=int, default=24576)
    arguments.add_argument("--width", type=int, default=256)
    arguments.add_argument("--feed-forward", type=int, default=768)
    arguments.add_argument("--encoder-layers", type=int, default=6)
    arguments.add_argument("--decoder-layers", type=int, default=3)
    arguments.add_argument("--dropout", type=float, default=0.1)
    arguments.add_argument("--decay", type=float, default=0.1)
    arguments.add_argument("--validations", type=int, default=10)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    draw = numpy.random.default_rng(0)
    folder = options.cache / "restore-case"
    vocabulary = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    arrays: dict[str, dict[str, numpy.ndarray]] = {}
    with numpy.load(folder / "pairs.npz") as archive:
        for name in archive:
            part, _, array = name.rpartition(".")
            arrays.setdefault(part.removeprefix("validation."), {})[array] = archive[name]
    parts = {name: Pairs(some, options.device) for name, some in arrays.items()}
    train = parts.pop("train")

    target = folder / "checkpoint"
    earlier = json.loads((folder / "training.json").read_text()) if options.resume else None
    again = transformers.T5ForConditionalGeneration.from_pretrained
    model = again(target, dtype=torch.float32) if earlier else new_model(options, vocabulary)
    model = model.to(options.device).train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters:,} parameters, {len(train.lengths):,} texts; ready after {time.monotonic() - BEGUN:.1f} s", flush=True)
    # T5 does not divide its scores by the root of a head's size: the queries' matrices carry it.
    optimizers = Optimizers(model, matrix_rate=0.02, rate=0.003, decay=options.decay, slower={"Attention.q": 32**-0.5})
    best, clock, step, validated, curve = Best(), Clock(BEGUN + options.seconds - options.reserve), 0, 0, []
    epoch = 0

    def epochs() -> Iterator[dict[str, torch.Tensor]]:
        nonlocal epoch
        while True:
            epoch += 1
            yield from train.batches(options.batch_tokens, draw)

    def validation(share: float, loss: float) -> None:
        losses = validate(model, parts, options.batch_tokens)
        mean = sum(losses.values()) / len(losses)
        best.offer(mean, model, step)
        curve.append({"seconds": round(time.monotonic() - BEGUN, 1), "step": step, "train": loss} | losses)
        print(f"step {step}, {share:.0%}, epoch {epoch}, training {loss:.4f}, validation {mean:.4f} {losses}", flush=True)

    batches, share = epochs(), 0.0
    while share < 1.0:
        loss = loss_of(model, next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(share)
        step += 1
        if step % 100 == 0:
            print(f"  step {step}, {time.monotonic() - BEGUN:.0f} s, {loss.item():.4f}", flush=True)
        if (share := clock.share()) * options.validations >= validated + 1:
            validated += 1
            validation(share, loss.item())
    if validated < options.validations:
        validation(share, loss.item())

    best.restore(model)
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=MAX_TOKENS, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0
    )
    model.half().save_pretrained(target)
    special = {"pad_token": PAD, "eos_token": END}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), model_max_length=MAX_TOKENS, **special)
    tokenizer.save_pretrained(target)
    log = {"parameters": parameters, "steps": step, "epochs": epoch, "saved_step": best.step, "seconds": round(time.monotonic() - BEGUN, 1)}
    log |= {"batch_tokens": options.batch_tokens, "texts": len(train.lengths), "torch": torch.__version__}
    log |= {"transformers": transformers.__version__, "device": str(options.device), "curve": curve, "earlier": earlier}
    (folder / "training.json").write_text(json.dumps(log, indent=1) + "\n")
    print(f"saved step {best.step} of {step}: {target}", flush=True)


if __name__ == "__main__":
    main()
