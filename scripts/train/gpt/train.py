"""Trains the decoder on the King James Bible; resumable, with the budget in CPU seconds.

    python scripts/train/gpt/train.py --cpu-seconds 2400
"""

from __future__ import annotations

import argparse
import math
import pathlib
import time

import tokenizers
import torch
from torch.nn import functional as F

import kjv
from model import Decoder, Shape

END = "<|endoftext|>"


def train_tokenizer(texts: list[str], size: int) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer trained on `texts`; id 0 is the end of a text."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> torch.Tensor:
    """All texts after each other, each behind the end-of-text token."""
    end = tokenizer.token_to_id(END)
    ids = [token for encoding in tokenizer.encode_batch(texts) for token in [end, *encoding.ids]]
    return torch.tensor(ids + [end])


def learning_rate(progress: float) -> float:
    """A share of the peak: warm-up over 2 %, then flat, then down to zero over the last 40 %."""
    return min(1.0, progress / 0.02, (1.0 - progress) / 0.4)


@torch.no_grad()
def bits_per_byte(model: Decoder, tokenizer: tokenizers.Tokenizer, texts: list[str], stride: int | None = None) -> float:
    """Bits per byte over whole texts: each token is predicted once, in windows of the context with the given stride."""
    model.eval()
    context = model.shape.context
    stride = stride or context // 2
    nats, size = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer.token_to_id(END), *tokenizer.encode(text).ids])
        size += len(text.encode())
        done = 1
        while done < len(ids):
            end = min(len(ids), context if done == 1 else done + stride)
            begin = max(0, end - context)
            window = ids[begin:end]
            logits = model(window[None, :-1])[0]
            losses = F.cross_entropy(logits, window[1:], reduction="none")
            nats += losses[done - begin - 1 :].double().sum().item()
            done = end
    model.train()
    return nats / math.log(2) / size


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--cpu-seconds", type=float, default=2400)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--dropout", type=float, default=0.1)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    folder = options.cache / "gpt-kjv"
    folder.mkdir(parents=True, exist_ok=True)

    shape = Shape()
    train, held_out = kjv.split()
    tokenizer = train_tokenizer(train, shape.vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = encode(tokenizer, train)
    print(f"{len(tokens)} training tokens, {sum(len(t.encode()) for t in train) / len(tokens):.2f} bytes each", flush=True)

    model = Decoder(shape, options.dropout)
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embedding" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=0.003, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    checkpoint = folder / "checkpoint.pt"
    spent, step = 0.0, 0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        spent, step = saved["spent"], saved["step"]

    # Batches are drawn from the step's own seed, so that a resumed run draws what the whole one would have.
    begun, saved_at = time.process_time() - spent, spent
    while (spent := time.process_time() - begun) < options.cpu_seconds:
        share = learning_rate(spent / options.cpu_seconds)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks):
            group["lr"] = peak * share
        draw = torch.Generator().manual_seed(step)
        starts = torch.randint(0, len(tokens) - shape.context - 1, (options.batch,), generator=draw)
        batch = torch.stack([tokens[start : start + shape.context + 1] for start in starts.tolist()])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(batch[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            print(f"step {step}, {spent:.0f} s, loss {loss.item():.3f}", flush=True)
        if spent - saved_at > 120:
            saved_at = spent
            states = [optimizer.state_dict() for optimizer in optimizers]
            torch.save({"model": model.state_dict(), "optimizers": states, "spent": spent, "step": step}, checkpoint)
            print(f"  held-out bits per byte, 6 chapters: {bits_per_byte(model, tokenizer, held_out[:6]):.3f}", flush=True)
    torch.save({"model": model.state_dict(), "step": step, "spent": spent}, folder / "final.pt")
    print(f"held-out bits per byte: {bits_per_byte(model, tokenizer, held_out):.4f}", flush=True)


if __name__ == "__main__":
    main()
