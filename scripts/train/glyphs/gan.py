"""Trains the class-conditional glyph GAN; resumable, keeps the averaged generator with the best FID.

A small DCGAN (Radford et al. 2016) with spectral normalisation (Miyato et al. 2018), hinge loss, a projection
discriminator (Miyato and Koyama 2018), an exponential average of the generator, and translation as differentiable
augmentation (Zhao et al. 2020). So that the generator does not settle on one style for each class, two images of a class
must differ as much as two real ones do, on average (after mode seeking, Mao et al. 2019). FID is measured in the glyph classifier's features against the training families.

    python scripts/train/glyphs/gan.py --cpu-seconds 5400
"""

from __future__ import annotations

import argparse
import copy
import pathlib
import time

import numpy
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

import fonts
from classifier import Classifier, tensors

LATENT = 64
CLASS_COUNT = len(fonts.CLASSES)
VARIETY_WEIGHT = 10.0


class ConditionalNorm(nn.Module):
    """Batch normalisation whose gain and bias depend on the class."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Embedding(CLASS_COUNT, channels)
        self.bias = nn.Embedding(CLASS_COUNT, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return self.norm(x) * self.gain(classes)[:, :, None, None] + self.bias(classes)[:, :, None, None]


class Generator(nn.Module):
    """z [n, 64] and class [n] to images [n, 1, 32, 32] in [-1, 1]."""

    def __init__(self, width: int = 40):
        super().__init__()
        self.embedding = nn.Embedding(CLASS_COUNT, 64)
        channels = [4 * width, 3 * width, 2 * width, width]
        self.first = nn.Linear(LATENT + 64, channels[0] * 16)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(channels, channels[1:]))
        self.norms = nn.ModuleList(ConditionalNorm(a) for a in channels)
        self.last = nn.Conv2d(channels[-1], 1, 3, padding=1)
        self.channels = channels

    def forward(self, z: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        x = self.first(torch.cat([z, self.embedding(classes)], 1)).view(-1, self.channels[0], 4, 4)
        for norm, convolution in zip(self.norms, self.convolutions):
            x = F.interpolate(F.relu(norm(x, classes)), scale_factor=2.0, mode="nearest")
            x = convolution(x)
        return torch.tanh(self.last(F.relu(self.norms[-1](x, classes))))


class Discriminator(nn.Module):
    """Images [n, 1, 32, 32] in [-1, 1] and class [n] to scores [n]: higher looks more real."""

    def __init__(self, width: int = 40):
        super().__init__()
        channels = [1, width, 2 * width, 3 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in zip(channels, channels[1:])
        )
        self.score = spectral_norm(nn.Linear(channels[-1], 1))
        self.embedding = spectral_norm(nn.Embedding(CLASS_COUNT, channels[-1]))

    def forward(self, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        x = images
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.1)
        x = x.sum((2, 3))
        return self.score(x)[:, 0] + (self.embedding(classes) * x).sum(1)


def translate(images: torch.Tensor, draw: torch.Generator, most: int = 3) -> torch.Tensor:
    """Moves each image by up to `most` pixels; what comes in is paper."""
    n, _, height, width = images.shape
    padded = F.pad(images, [most] * 4, value=1.0)
    down, right = (torch.randint(0, 2 * most + 1, (n,), generator=draw) for _ in range(2))
    rows = (down[:, None] + torch.arange(height))[:, None, :, None]
    columns = (right[:, None] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], 0, rows, columns]


def variety(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How much two real images of each class differ: the mean absolute difference of values, over random pairs."""
    draw = torch.Generator().manual_seed(0)
    differences = []
    for index in range(CLASS_COUNT):
        of_class = images[labels == index]
        first, second = (of_class[torch.randint(0, len(of_class), (400,), generator=draw)] for _ in range(2))
        differences.append((first - second).abs().mean())
    return torch.stack(differences)


def settle_norms(generator: Generator, batches: int = 40) -> None:
    """Batch statistics of the averaged weights, which training has never run: an average over fresh samples."""
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    generator.train()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(batches):
            generator(torch.randn(144, LATENT, generator=draw), torch.arange(144) % CLASS_COUNT)
    generator.eval()


@torch.no_grad()
def samples(generator: Generator, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [0, 1] of all classes in turn, and the classes."""
    draw = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % CLASS_COUNT
    z = torch.randn(count, LATENT, generator=draw)
    images = torch.cat([generator(a, b) for a, b in zip(z.split(256), classes.split(256))])
    return (images + 1) / 2, classes


@torch.no_grad()
def statistics(classifier: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and covariance of the features, and the classes read."""
    outputs = [classifier(part) for part in images.split(512)]
    features = torch.cat([features for _, features in outputs]).double()
    return features.mean(0), features.T.cov(), torch.cat([logits.argmax(1) for logits, _ in outputs])


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b) -> float:
    """The Fréchet distance of two Gaussians (Heusel et al. 2017)."""
    eigenvalues = numpy.linalg.eigvals((covariance_a @ covariance_b).numpy())
    root = numpy.sqrt(numpy.maximum(eigenvalues.real, 0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + covariance_a.trace() + covariance_b.trace()) - 2 * float(root)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--cpu-seconds", type=float, default=5400)
    arguments.add_argument("--batch", type=int, default=72)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    glyphs = fonts.load(options.cache)
    images, labels = tensors(glyphs, ~glyphs["held_out"])
    images = images * 2 - 1

    real_variety = variety(images, labels)

    classifier = Classifier()
    classifier.load_state_dict(torch.load(options.cache / "glyph-classifier.pt"))
    classifier.eval()
    reference = statistics(classifier, (images + 1) / 2)[:2]

    generator, discriminator = Generator(), Discriminator()
    averaged = copy.deepcopy(generator)
    optimizers = [
        torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.0, 0.99)),
        torch.optim.Adam(discriminator.parameters(), lr=4e-4, betas=(0.0, 0.99)),
    ]
    modules = {"generator": generator, "discriminator": discriminator, "averaged": averaged}
    checkpoint = options.cache / "glyph-gan-checkpoint.pt"
    spent, step, best = 0.0, 0, float("inf")
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        for name, module in modules.items():
            module.load_state_dict(saved[name])
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        spent, step, best = saved["spent"], saved["step"], saved["best"]

    generator_optimizer, discriminator_optimizer = optimizers
    begun, measured = time.process_time() - spent, spent
    while (spent := time.process_time() - begun) < options.cpu_seconds:
        # Each step draws from its own seed, so that a resumed run draws what the whole one would have.
        draw = torch.Generator().manual_seed(step)
        share = min(1.0, (1 - spent / options.cpu_seconds) / 0.3)
        for optimizer, peak in zip(optimizers, (2e-4, 4e-4)):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
        with torch.autocast("cpu", dtype=torch.bfloat16):
            chosen = torch.randint(0, len(images), (options.batch,), generator=draw)
            classes = labels[chosen]
            with torch.no_grad():
                fakes = generator(torch.randn(options.batch, LATENT, generator=draw), classes)
            real_scores = discriminator(translate(images[chosen], draw), classes)
            fake_scores = discriminator(translate(fakes.float(), draw), classes)
            loss = F.relu(1 - real_scores.float()).mean() + F.relu(1 + fake_scores.float()).mean()
        discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        discriminator_optimizer.step()

        with torch.autocast("cpu", dtype=torch.bfloat16):
            # Each class comes twice, so that the two can be compared.
            classes = torch.randint(0, CLASS_COUNT, (options.batch // 2,), generator=draw).repeat(2)
            fakes = generator(torch.randn(len(classes), LATENT, generator=draw), classes).float()
            first, second = fakes.chunk(2)
            alike = F.relu(real_variety[classes[: len(first)]] - (first - second).abs().mean((1, 2, 3)))
            generator_loss = VARIETY_WEIGHT * alike.mean() - discriminator(translate(fakes, draw), classes).float().mean()
        generator_optimizer.zero_grad(set_to_none=True)
        generator_loss.backward()
        generator_optimizer.step()
        with torch.no_grad():
            decay = min(0.999, step / (step + 100))
            for average, parameter in zip(averaged.parameters(), generator.parameters()):
                average.lerp_(parameter, 1 - decay)
        step += 1

        if spent - measured > 150:
            measured = spent
            candidate = copy.deepcopy(averaged)
            settle_norms(candidate)
            drawn, classes = samples(candidate, 1800, seed=2)
            mean, covariance, read = statistics(classifier, drawn)
            distance = frechet_distance(mean, covariance, *reference)
            accuracy = (read == classes).float().mean().item()
            made = variety(drawn * 2 - 1, classes).mean().item() / real_variety.mean().item()
            print(f"step {step}, {spent:.0f} s, FID {distance:.3f}, read as asked {accuracy:.4f}, variety {made:.2f} of real", flush=True)
            if distance < best:
                best = distance
                torch.save({"generator": candidate.state_dict(), "discriminator": discriminator.state_dict(), "step": step, "spent": spent, "fid": distance}, options.cache / "glyph-gan-best.pt")
            states = {name: module.state_dict() for name, module in modules.items()}
            torch.save(states | {"optimizers": [o.state_dict() for o in optimizers], "spent": spent, "step": step, "best": best}, checkpoint)


if __name__ == "__main__":
    main()
