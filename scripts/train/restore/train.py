"""Trains the model that restores case and punctuation; resumable, with the budget in CPU seconds.

    python scripts/train/restore/train.py --cpu-seconds 2400
"""

from __future__ import annotations

import argparse
import pathlib
import time

import tokenizers
import torch
from torch.nn import functional as F

import data
from measure import measure
from model import Seq2Seq, Shape

PAD, END = "<pad>", "</s>"


def make_tokenizer(texts: list[str], size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE with few merges, and none across words or between letters and punctuation, so that copying a
    word is copying its tokens; each text ends with </s>."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return tokenizer


def batch_of(pairs: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask, decoder input and labels, padded; labels of padding are -100."""
    def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
        longest = max(map(len, rows))
        return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])

    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    ids, mask = padded(sources, 0), padded([[1] * len(source) for source in sources], 0)
    return ids, mask, padded([[0, *target[:-1]] for target in targets], 0), padded(targets, -100)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--cpu-seconds", type=float, default=2400)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    folder = options.cache / "restore-case"
    folder.mkdir(parents=True, exist_ok=True)

    train, held_out = data.split()
    shape = Shape()
    tokenizer = make_tokenizer(train[::5], shape.vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    sources = tokenizer.encode_batch([data.stripped(text) for text in train])
    targets = tokenizer.encode_batch(train)
    pairs = [(a.ids, b.ids) for a, b in zip(sources, targets) if max(len(a.ids), len(b.ids)) <= shape.max_tokens]
    # Batches of like lengths waste little on padding.
    pairs.sort(key=lambda pair: len(pair[1]))
    print(f"{len(pairs)} pairs, {sum(len(t) for _, t in pairs) / len(pairs):.0f} tokens each", flush=True)

    model = Seq2Seq(shape)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name and "table" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    peaks = (0.02, 0.003)
    optimizers = [
        torch.optim.Muon(matrices, lr=peaks[0], momentum=0.95, weight_decay=0.01, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=peaks[1], betas=(0.9, 0.98), weight_decay=0.0),
    ]
    checkpoint = folder / "checkpoint.pt"
    spent, step = 0.0, 0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        spent, step = saved["spent"], saved["step"]

    begun, saved_at = time.process_time() - spent, spent
    while (spent := time.process_time() - begun) < options.cpu_seconds:
        progress = spent / options.cpu_seconds
        for optimizer, peak in zip(optimizers, peaks):
            for group in optimizer.param_groups:
                group["lr"] = peak * min(1.0, progress / 0.02, (1 - progress) / 0.5)
        draw = torch.Generator().manual_seed(step)
        start = int(torch.randint(0, len(pairs), (1,), generator=draw))
        size = max(8, 3600 // len(pairs[start][1]))
        ids, mask, inputs, labels = batch_of(pairs[start : start + size])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(ids, mask, inputs)
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=0.02)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            print(f"step {step}, {spent:.0f} s, loss {loss.item():.4f}", flush=True)
        if spent - saved_at > 240:
            saved_at = spent
            states = [optimizer.state_dict() for optimizer in optimizers]
            torch.save({"model": model.state_dict(), "optimizers": states, "spent": spent, "step": step}, checkpoint)
            print("  ", measure(model, tokenizer, held_out["KJV"][:40] + held_out["Python documentation"][:40]), flush=True)
    torch.save({"model": model.state_dict(), "step": step, "spent": spent}, folder / "final.pt")


if __name__ == "__main__":
    main()
