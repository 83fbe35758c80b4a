"""The VAE over printed glyphs: clean prints are normal, print defects are anomalies.

    python scripts/train/vae/glyph_defects.py --steps 6000
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from export import ROOT, export, quality, versions, write_test_set
from model import Likelihood, fit, images_32

sys.path.insert(0, str(ROOT / "scripts/train/glyphs"))
import fonts  # noqa: E402

NAME = "vae-glyphs"
LIKELIHOOD = Likelihood("gaussian", sigma=0.1)
DEFECTS = ["noise", "shear", "blob", "erased part"]


def defect(image: numpy.ndarray, kind: int, random: numpy.random.Generator) -> numpy.ndarray:
    """A damaged copy of a glyph [32, 32] in [0, 1], where 0 is ink."""
    if kind == 0:
        return (image + random.normal(0, 0.25, image.shape)).clip(0, 1)
    if kind == 1:
        slope = random.choice([-1, 1]) * random.uniform(0.45, 0.8)
        affine = torch.tensor([[[1.0, slope, 0.0], [0.0, 1.0, 0.0]]], dtype=torch.float32)
        page = 1 - torch.from_numpy(image)[None, None].float()
        grid = F.affine_grid(affine, [1, 1, *image.shape], align_corners=False)
        return (1 - F.grid_sample(page, grid, align_corners=False)[0, 0].numpy()).clip(0, 1)
    row, column = random.integers(7, 25, 2)
    y, x = numpy.mgrid[:32, :32]
    if kind == 2:
        spot = (y - row) ** 2 + (x - column) ** 2 <= random.uniform(2.5, 4.5) ** 2
        return numpy.where(spot, 0.0, image)
    # The erased part is placed on ink: erasing paper damages nothing.
    inked = numpy.argwhere(image < 0.3)
    row, column = inked[random.integers(len(inked))]
    half = random.integers(3, 6)
    return numpy.where((abs(y - row) <= half) & (abs(x - column) <= half), 1.0, image)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--steps", type=int, default=6000)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    glyphs = fonts.load(options.cache)
    train = torch.from_numpy(glyphs["images"][~glyphs["held_out"]]).float().div(255).reshape(-1, 1, 32, 32)
    clean = glyphs["images"][glyphs["held_out"]].reshape(-1, 32, 32) / 255.0

    def shift(images: torch.Tensor) -> torch.Tensor:
        """A print is never placed to the pixel: up to one pixel either way."""
        down, right = torch.randint(-1, 2, (2,)).tolist()
        return torch.roll(images, (down, right), (2, 3))

    torch.manual_seed(0)
    vae = fit(images_32(24, 32, LIKELIHOOD), train, steps=options.steps, batch=96, augment=shift)

    random = numpy.random.default_rng(0)
    order = random.permutation(len(clean))
    calibration, normal, damaged = order[:300], order[300:900], order[900:1500]
    kinds = numpy.arange(600) % len(DEFECTS)
    broken = numpy.stack([defect(clean[index], int(kind), random) for index, kind in zip(damaged, kinds)])
    # Pixels are bytes in the end, as a scanner would give them.
    tested = (numpy.concatenate([clean[normal], broken])[:, None] * 255).round() / 255
    labels = numpy.concatenate([numpy.zeros(600), numpy.ones(600)]).astype("i8")
    scores = vae.scores(torch.from_numpy(tested).float())
    table = quality(scores, labels)
    by_defect = []
    for kind, name in enumerate(DEFECTS):
        rows = numpy.concatenate([numpy.arange(600), 600 + numpy.flatnonzero(kinds == kind)])
        by_defect.append(f"| {name} | " + " | ".join(f"{roc_auc_score(labels[rows], values[rows]):.3f}" for values in scores.values()) + " |")
    by_defect = "\n".join(by_defect)
    print(table, by_defect, sep="\n")
    write_test_set(
        "glyph-defects-heldout", tested, labels,
        "# glyph-defects-heldout\n\nGlyphs of font families that `vae-glyphs` has never seen: 600 clean ones and 600 with a print defect.\n"
        "`rows.npz`: `x` [1200, 1, 32, 32] from 0 (ink) to 1 (paper) in steps of 1/255, `labels` [1200], 1 = damaged, `kinds` [1200]:\n"
        f"-1 = clean, {', '.join(f'{i} = {name}' for i, name in enumerate(DEFECTS))}. Written by `scripts/train/vae/glyph_defects.py`.\n"
        "Fonts: the packages in `scripts/train/glyphs/packages.txt`, OFL or Apache-2.0.",
        kinds=numpy.concatenate([numpy.full(600, -1), kinds]).astype("i8"),
    )  # fmt: skip
    export(
        NAME, vae,
        standard=torch.from_numpy(clean[calibration[:8]])[:, None].float(),
        normals=(clean[calibration][:, None] * 255).round() / 255,
        section={"data": "image", "shape": [1, 32, 32], "value_range": [0.0, 1.0], "likelihood": "gaussian", "sigma": LIKELIHOOD.sigma, "default_score": "reconstruction_error"},
        description="Scores printed glyphs A-Z and 0-9: print defects are anomalies",
        license="Apache-2.0",
        training_data=["Glyphs rendered from Debian's OFL and Apache-2.0 fonts (scripts/train/glyphs/packages.txt)"],
        card=f"""
# vae-glyphs

A VAE over printed glyphs (A–Z, 0–9) at 32×32, from 0 (ink) to 1 (paper). It was trained on clean glyphs of
{int((~glyphs['held_out']).sum())} fonts; prints with noise, shear, a blob or an erased part are the anomalies.

* Network: convolutions 24–48–96, latent 32, and back; Gaussian likelihood with sigma {LIKELIHOOD.sigma}.
* Data: glyphs of OFL and Apache-2.0 fonts from the Debian packages in `scripts/train/glyphs/packages.txt`, split by package. Weights: Apache-2.0.

## Quality

On glyphs of families that it has never seen:

{table}

| defect | ROC-AUC, reconstruction_error | ROC-AUC, negative_elbo |
|---|---|---|
{by_defect}

## Make it, measure it again

    python scripts/train/vae/glyph_defects.py --steps {options.steps}      # trains, exports and prints the tables above
    quintet evaluate anomaly --model vae-glyphs --dataset glyph-defects-heldout      # through the service

{versions()}; seed 0.

## Limits

A glyph in an unusual style is an anomaly to it too; thin strokes erased in part are the hardest to see.
""",
    )  # fmt: skip


if __name__ == "__main__":
    main()
