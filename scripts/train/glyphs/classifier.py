"""Trains the glyph classifier whose features give FID and whose logits give the Inception Score.

    python scripts/train/glyphs/classifier.py --cpu-seconds 700
"""

from __future__ import annotations

import argparse
import pathlib
import time

import torch
from torch import nn
from torch.nn import functional as F

import fonts

FEATURES = 64


class Classifier(nn.Module):
    """Images [n, 1, 32, 32] in [0, 1] to logits [n, 36] and features [n, 64]."""

    def __init__(self, width: int = 32):
        super().__init__()

        def stage(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )

        self.stages = nn.Sequential(stage(1, width), stage(width, 2 * width), stage(2 * width, 3 * width))
        self.dropout = nn.Dropout(0.3)
        self.features = nn.Linear(3 * width * 16, FEATURES)
        self.logits = nn.Linear(FEATURES, len(fonts.CLASSES))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stages((images - 0.5) * 2).flatten(1)
        # tanh keeps the features bounded, so that one odd image cannot carry a covariance.
        features = torch.tanh(self.features(self.dropout(x)))
        return self.logits(features), features


def augment(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Small shifts, turns, shears and changes of size, on white paper."""
    n = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=draw) * (high - low) + low

    angle, shear, scale = uniform(-0.12, 0.12), uniform(-0.15, 0.15), uniform(0.85, 1.2)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cos, -sin + shear, uniform(-0.12, 0.12)], 1), torch.stack([sin, cos, uniform(-0.12, 0.12)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return 1 - F.grid_sample(1 - images, grid, align_corners=False)


def tensors(glyphs, which) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [n, 1, 32, 32] in [0, 1] and labels [n] of the chosen fonts."""
    chosen = torch.from_numpy(glyphs["images"][which]).float().div(255)
    labels = torch.arange(36).repeat(len(chosen))
    return chosen.reshape(-1, 1, fonts.SIZE, fonts.SIZE), labels


@torch.no_grad()
def predictions(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    model.eval()
    result = torch.cat([model(part)[0].argmax(1) for part in images.split(512)])
    model.train()
    return result


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--cpu-seconds", type=float, default=700)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    glyphs = fonts.load(options.cache)
    images, labels = tensors(glyphs, ~glyphs["held_out"])
    test_images, test_labels = tensors(glyphs, glyphs["held_out"])
    print(f"{len(images)} training images, {len(test_images)} held out", flush=True)

    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    draw = torch.Generator().manual_seed(0)
    begun, step = time.process_time(), 0
    while (progress := (time.process_time() - begun) / options.cpu_seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, progress / 0.02, (1 - progress) / 0.6)
        chosen = torch.randint(0, len(images), (128,), generator=draw)
        logits, _ = model(augment(images[chosen], draw))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            accuracy = (predictions(model, test_images) == test_labels).float().mean().item()
            print(f"step {step}, {progress:.0%}, loss {loss.item():.3f}, held-out accuracy {accuracy:.4f}", flush=True)
    torch.save(model.state_dict(), options.cache / "glyph-classifier.pt")
    accuracy = (predictions(model, test_images) == test_labels).float().mean().item()
    print(f"held-out accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
