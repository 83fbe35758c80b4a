"""Exports the glyph classifier and the best averaged generator with its discriminator, and writes their model folders
and the data set of held-out glyphs.

    python scripts/train/glyphs/export.py
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import sys

import numpy
import onnxruntime
import torch
from torch.nn.utils import parametrize

import fonts
from classifier import FEATURES, Classifier, predictions, tensors
from gan import LATENT, Discriminator, Generator, frechet_distance, samples, statistics

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts/train"))
import folder  # noqa: E402

LICENSE = "Apache-2.0"
DATA = ["Glyphs rendered from Debian's OFL and Apache-2.0 fonts (scripts/train/glyphs/packages.txt)"]


def export(module: torch.nn.Module, example: tuple, inputs: list[str], outputs: list[str], file: pathlib.Path) -> None:
    batch = torch.export.Dim("n", min=1, max=65536)
    program = torch.onnx.export(
        module.eval(), example, input_names=inputs, output_names=outputs, dynamic_shapes=tuple({0: batch} for _ in inputs), opset_version=20, dynamo=True, verbose=False
    )
    program.save(str(file), external_data=False)


def versions() -> str:
    return f"Python {platform.python_version()}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"


def confusions(read: torch.Tensor, labels: torch.Tensor) -> str:
    """The pairs of classes that are taken for each other most often."""
    counts: dict[tuple[str, str], int] = {}
    for a, b in zip(labels.tolist(), read.tolist()):
        if a != b:
            pair = tuple(sorted((fonts.CLASSES[a], fonts.CLASSES[b])))
            counts[pair] = counts.get(pair, 0) + 1
    worst = sorted(counts.items(), key=lambda item: -item[1])[:6]
    return ", ".join(f"{a}/{b} ({count})" for (a, b), count in worst)


def write_classifier(classifier: Classifier, glyphs: dict, images: torch.Tensor, labels: torch.Tensor) -> None:
    target = ROOT / "deploy/models/glyph-classifier/1"
    target.mkdir(parents=True, exist_ok=True)
    export(classifier, (images[:4],), ["images"], ["logits", "features"], target / "model.onnx")
    read = predictions(classifier, images)
    classifier.eval()
    accuracy = (read == labels).float().mean().item()
    alike = torch.tensor([fonts.CLASSES[label] in "0O1I5S" for label in labels.tolist()])
    clear = (read == labels)[~alike].float().mean().item()
    golden = folder.golden_pairs(target / "model.onnx", {"images": images[:6].numpy()}, ["logits", "features"])
    with torch.no_grad():
        numpy.testing.assert_allclose(golden["model/out/logits"], classifier(images[:6])[0].numpy(), atol=1e-3)
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    folder.write(
        target,
        kind="image-classifier",
        description="Reads printed glyphs A-Z and 0-9; its features give FID",
        license=LICENSE,
        training_data=DATA,
        section={"graph": "model.onnx", "classes": list(fonts.CLASSES), "features": FEATURES, "image": [1, 32, 32], "value_range": [0.0, 1.0]},
        golden=golden,
        golden_tolerance=1e-3,
        card=f"""
# glyph-classifier

Reads glyphs of A–Z and 0–9 at 32×32, from 0 (ink) to 1 (paper). Its penultimate layer ({FEATURES} values after tanh) gives the
features for FID and KID, its logits the Inception Score. It is independent of the GAN: it never saw a generated image.

* Network: six convolutions, {parameters:,} parameters.
* Data: {int((~glyphs["held_out"]).sum())} fonts to train on, {int(glyphs["held_out"].sum())} held out, split by package so that no cut of a typeface is on both
  sides; OFL and Apache-2.0 fonts of the Debian packages in `scripts/train/glyphs/packages.txt`. Weights: {LICENSE}.

## Quality

Top-1 on {len(labels)} glyphs of held-out families: **{accuracy:.2%}**; {clear:.2%} without 0/O, 1/I and 5/S, which shape alone hardly
tells apart. Most often confused: {confusions(read, labels)}.

## Make it, measure it again

    python scripts/train/glyphs/classifier.py --cpu-seconds 500      # trains, prints the accuracy as it goes
    python scripts/train/glyphs/export.py                            # exports, prints the figures above

{versions()}; seed 0.
""",
    )  # fmt: skip
    print(f"classifier: {accuracy:.4f}, without the alike {clear:.4f}")


def write_dataset(images: torch.Tensor, labels: torch.Tensor) -> None:
    """About 2,880 held-out glyphs, 80 of each class."""
    target = ROOT / "deploy/datasets/glyphs-heldout"
    target.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    chosen = numpy.sort(numpy.concatenate([random.choice(numpy.flatnonzero(labels.numpy() == label), 80, replace=False) for label in range(36)]))
    pixels = (images[chosen, 0] * 255).round().to(torch.uint8).numpy()
    numpy.savez_compressed(target / "images.npz", images=pixels, labels=labels.numpy()[chosen])
    (target / "README.md").write_text(
        f"# glyphs-heldout\n\n{len(chosen)} glyphs, 80 of each of 0–9 and A–Z, of font families that no model here was trained on. `images.npz`: `images`\n"
        f"uint8 [{len(chosen)}, 32, 32], 0 = ink, 255 = paper; `labels` [{len(chosen)}], an index into 0–9 A–Z. Written by\n"
        "`scripts/train/glyphs/export.py`. Fonts: `scripts/train/glyphs/packages.txt`, OFL or Apache-2.0.\n"
    )


def write_gan(cache: pathlib.Path, classifier: Classifier, images: torch.Tensor) -> None:
    saved = torch.load(cache / "glyph-gan-best.pt")
    generator, discriminator = Generator(), Discriminator()
    generator.load_state_dict(saved["generator"])
    discriminator.load_state_dict(saved["discriminator"])
    generator.eval()
    discriminator.eval()
    # Spectral normalisation is training's business: the normalised weights are exported as they are.
    for module in discriminator.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    target = ROOT / "deploy/models/glyph-gan/1"
    target.mkdir(parents=True, exist_ok=True)
    classes = torch.arange(4)
    z = torch.randn(4, LATENT, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = generator(z, classes)
        scores = discriminator(drawn, classes)
    export(generator, (z, classes), ["z", "class"], ["image"], target / "generator.onnx")
    export(discriminator, (drawn, classes), ["image", "class"], ["score"], target / "discriminator.onnx")
    golden = folder.golden_pairs(target / "generator.onnx", {"z": z.numpy(), "class": classes.numpy()}, ["image"])
    golden |= folder.golden_pairs(target / "discriminator.onnx", {"image": drawn.numpy(), "class": classes.numpy()}, ["score"])
    numpy.testing.assert_allclose(golden["generator/out/image"], drawn.numpy(), atol=1e-3)
    numpy.testing.assert_allclose(golden["discriminator/out/score"], scores.numpy(), rtol=1e-3, atol=1e-2)

    made, asked = samples(generator, 3600, seed=11)
    mean, covariance, read = statistics(classifier, made)
    right = (read == asked).float().mean().item()
    worst = sorted((float((read == asked)[asked == index].float().mean()), name) for index, name in enumerate(fonts.CLASSES))[:4]
    distance = frechet_distance(mean, covariance, *statistics(classifier, images)[:2])
    folder.write(
        target,
        kind="gan",
        description="Draws glyphs A-Z and 0-9 in styles of its own",
        license=LICENSE,
        training_data=DATA,
        section={
            "generator": "generator.onnx", "discriminator": "discriminator.onnx", "latent_size": LATENT, "classes": list(fonts.CLASSES),
            "image": [1, 32, 32], "value_range": [-1.0, 1.0],
        },
        golden=golden,
        golden_tolerance=1e-3,
        card=f"""
# glyph-gan

A class-conditional GAN that draws A–Z and 0–9 at 32×32, from -1 (ink) to 1 (paper).

* Generator: DCGAN with conditional batch norm, z {LATENT}, {sum(p.numel() for p in generator.parameters()):,} parameters, an exponential average of the trained
  weights. Discriminator: spectral norm, projection, hinge loss, {sum(p.numel() for p in discriminator.parameters()):,} parameters.
* Data: glyphs of OFL and Apache-2.0 fonts from the Debian packages in `scripts/train/glyphs/packages.txt`, the training families.
  Weights: {LICENSE}.

## Quality

Read as the asked class by `glyph-classifier`, which is independent of it: **{right:.2%}** of 3,600 samples, 100 of each class (the
hardest: {", ".join(f"{name} {share:.0%}" for share, name in worst)}). FID in the classifier's features, 3,600 samples against
{len(images)} glyphs of held-out families: {distance:.2f}; such figures compare only where features, sizes and reference are the same.

## Make it, measure it again

    python scripts/train/glyphs/gan.py --cpu-seconds 1150      # keeps the checkpoint with the best FID: step {saved["step"]}, after {saved["spent"]:.0f} CPU seconds
    python scripts/train/glyphs/export.py                      # exports, prints the figures above
    quintet evaluate image --model glyph-gan                   # FID, KID, Inception Score through the service

{versions()}; seed 0.
""",
    )  # fmt: skip
    print(f"GAN: step {saved['step']}, read as asked {right:.4f}, FID against held-out {distance:.3f}, hardest {worst}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    options = arguments.parse_args()
    torch.set_num_threads(2)
    glyphs = fonts.load(options.cache)
    images, labels = tensors(glyphs, glyphs["held_out"])
    classifier = Classifier()
    classifier.load_state_dict(torch.load(options.cache / "glyph-classifier.pt"))
    classifier.eval()
    write_classifier(classifier, glyphs, images, labels)
    classifier.eval()
    write_dataset(images, labels)
    write_gan(options.cache, classifier, images)


if __name__ == "__main__":
    main()
