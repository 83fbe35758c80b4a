"""Trains the decoder on what `prepare.py` wrote, against the clock, and saves a Hugging Face checkpoint.

    python scripts/train/gpt/train.py --device cuda --seconds 250

The learning rate follows the time, so that any budget ends annealed; what is saved is the best checkpoint by validation loss.
"""

from __future__ import annotations

import time

BEGUN = time.monotonic()

import argparse  # noqa: E402
import json  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402

import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from torch.nn import functional as F  # noqa: E402

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from annealing import Best, Clock, Optimizers  # noqa: E402

END = "<|endoftext|>"
# Windows of each source that validation looks at.
VALIDATION_WINDOWS = 80


def new_model(options: argparse.Namespace, vocabulary: int) -> transformers.LlamaForCausalLM:
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=options.width, intermediate_size=options.feed_forward, num_hidden_layers=options.layers,
        num_attention_heads=options.width // 64, num_key_value_heads=2, head_dim=64, max_position_embeddings=options.context,
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=None, attn_implementation="sdpa",
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    written = [part for layer in model.model.layers for part in (layer.self_attn.o_proj, layer.mlp.down_proj)]
    for module in [model.model.embed_tokens, *written]:
        module.register_forward_hook(lambda module, _, output: F.dropout(output, options.dropout, module.training))
    return model


def windows(tokens: torch.Tensor, starts: torch.Tensor, context: int) -> torch.Tensor:
    """[n, context + 1] tokens, from each start on."""
    return tokens[starts[:, None] + torch.arange(context + 1, device=tokens.device)]


def epochs(tokens: torch.Tensor, context: int, batch: int):
    """Batches of windows without end; within an epoch each token comes once, from one epoch to the next windows begin elsewhere."""
    while True:
        offset = int(torch.randint(0, context, ()))
        count = (len(tokens) - offset - 1) // context
        order = torch.randperm(count, device=tokens.device) * context + offset
        for begin in range(0, count - batch + 1, batch):
            yield windows(tokens, order[begin : begin + batch], context)


def loss_of(model, batch: torch.Tensor) -> torch.Tensor:
    """Nats a token."""
    with torch.autocast(batch.device.type, dtype=torch.bfloat16):
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def validate(model, parts: dict[str, torch.Tensor], context: int, batch: int) -> dict[str, float]:
    """Nats a token of each source's validation part, over windows that do not overlap."""
    model.eval()
    losses = {}
    for name, tokens in parts.items():
        count = min(VALIDATION_WINDOWS, (len(tokens) - 1) // context)
        starts = torch.arange(count, device=tokens.device) * context
        rows = [loss_of(model, windows(tokens, chunk, context)) * len(chunk) for chunk in starts.split(batch)]
        losses[name] = float(sum(rows) / count)
    model.train()
    return losses


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=7200, help="by the wall clock, all told")
    arguments.add_argument("--reserve", type=float, default=10, help="of these, for saving")
    arguments.add_argument("--batch", type=int, default=96)
    arguments.add_argument("--context", type=int, default=512)
    arguments.add_argument("--width", type=int, default=512)
    arguments.add_argument("--feed-forward", type=int, default=1376)
    arguments.add_argument("--layers", type=int, default=8)
    arguments.add_argument("--dropout", type=float, default=0.2)
    arguments.add_argument("--decay", type=float, default=0.1)
    arguments.add_argument("--validations", type=int, default=10)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    folder = options.cache / "gpt-english"
    with numpy.load(folder / "tokens.npz") as archive:
        parts = {name: torch.from_numpy(archive[name].astype("i8")).to(options.device) for name in archive}
    tokens = parts.pop("train")
    parts = {name.partition(".")[2]: part for name, part in parts.items()}
    vocabulary = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])

    model = new_model(options, vocabulary).to(options.device).train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters:,} parameters, {len(tokens):,} tokens; ready after {time.monotonic() - BEGUN:.1f} s", flush=True)
    optimizers = Optimizers(model, matrix_rate=0.02, rate=0.003, decay=options.decay)
    best, batches = Best(), epochs(tokens, options.context, options.batch)
    clock, step, validated, curve = Clock(BEGUN + options.seconds - options.reserve), 0, 0, []

    def validation(share: float, loss: float) -> None:
        losses = validate(model, parts, options.context, options.batch)
        mean = sum(losses.values()) / len(losses)
        best.offer(mean, model, step)
        curve.append({"seconds": round(time.monotonic() - BEGUN, 1), "step": step, "train": loss} | losses)
        seen = step * options.batch * options.context
        print(f"step {step}, {share:.0%}, {seen / len(tokens):.2f} epochs, training {loss:.4f}, validation {mean:.4f} {losses}", flush=True)

    share = 0.0
    while share < 1.0:
        loss = loss_of(model, next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(share)
        step += 1
        if step % 100 == 0:
            print(f"  step {step}, {time.monotonic() - BEGUN:.0f} s, {loss.item():.3f}", flush=True)
        if (share := clock.share()) * options.validations >= validated + 1:
            validated += 1
            validation(share, loss.item())
    if validated < options.validations:
        validation(share, loss.item())

    best.restore(model)
    model.generation_config = transformers.GenerationConfig(
        do_sample=True, temperature=1.0, top_p=0.95, max_new_tokens=128, bos_token_id=0, eos_token_id=0
    )
    target = folder / "checkpoint"
    # Weights of 16 bits hold more than the 8 bits that are served.
    model.half().save_pretrained(target)
    end = {"bos_token": END, "eos_token": END}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), model_max_length=options.context, **end)
    tokenizer.save_pretrained(target)
    log = {"parameters": parameters, "steps": step, "saved_step": best.step, "seconds": round(time.monotonic() - BEGUN, 1)}
    log |= {"batch": options.batch, "context": options.context, "tokens": len(tokens), "torch": torch.__version__}
    log |= {"transformers": transformers.__version__, "device": str(options.device), "curve": curve}
    (folder / "training.json").write_text(json.dumps(log, indent=1) + "\n")
    print(f"saved step {best.step} of {step}: {target}", flush=True)


if __name__ == "__main__":
    main()
