"""Writes a trained VAE as a model folder, with its test set and measured quality."""

from __future__ import annotations

import pathlib
import platform
import sys

import numpy
import onnxruntime
import sklearn
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from model import Vae

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts/train"))
import folder  # noqa: E402


def versions() -> str:
    return f"Python {platform.python_version()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, ONNX Runtime {onnxruntime.__version__}"


def quality(scores: dict[str, numpy.ndarray], labels: numpy.ndarray) -> str:
    """A table of ROC-AUC and average precision for both scores."""
    rows = ["| score | ROC-AUC | average precision |", "|---|---|---|"]
    for name, values in scores.items():
        rows.append(f"| {name} | {roc_auc_score(labels, values):.3f} | {average_precision_score(labels, values):.3f} |")
    return "\n".join(rows) + f"\n\nMeasured on {len(labels)} held-out samples, {labels.mean():.1%} of them anomalies."


def export(
    name: str,
    vae: Vae,
    *,
    standard: torch.Tensor,
    normals: numpy.ndarray,
    section: dict,
    description: str,
    license: str,
    training_data: list[str],
    card: str,
) -> None:
    """`standard` holds a few samples as the graphs take them; `normals` are in the client's units."""
    target = ROOT / "deploy/models" / name / "1"
    target.mkdir(parents=True, exist_ok=True)
    vae.eval()
    batch = torch.export.Dim("n", min=1, max=65536)
    mean, _ = vae.encoder(standard)
    for module, sample, inputs, outputs, file in (
        (vae.encoder, standard, ["x"], ["mean", "log_variance"], "encoder.onnx"),
        (vae.decoder, mean.detach(), ["z"], ["reconstruction"], "decoder.onnx"),
    ):
        program = torch.onnx.export(
            module, (sample,), input_names=inputs, output_names=outputs, dynamic_shapes=({0: batch},), opset_version=20, dynamo=True, verbose=False
        )
        program.save(str(target / file), external_data=False)
    numpy.savez_compressed(target / "normals.npz", x=normals.astype("f4"))
    x, z = standard[:4].numpy(), mean[:4].detach().numpy()
    golden = folder.golden_pairs(target / "encoder.onnx", {"x": x}, ["mean", "log_variance"])
    golden |= folder.golden_pairs(target / "decoder.onnx", {"z": z}, ["reconstruction"])
    with torch.no_grad():
        numpy.testing.assert_allclose(golden["encoder/out/mean"], vae.encoder(standard[:4])[0].numpy(), atol=2e-4)
        numpy.testing.assert_allclose(golden["decoder/out/reconstruction"], vae.decoder(mean[:4]).numpy(), atol=2e-4)
    folder.write(
        target,
        kind="vae",
        description=description,
        license=license,
        training_data=training_data,
        section={"encoder": "encoder.onnx", "decoder": "decoder.onnx", "latent_size": mean.shape[1]} | section | {"normals": "normals.npz"},
        golden=golden,
        golden_tolerance=1e-3,
        card=card,
    )


def write_test_set(name: str, x: numpy.ndarray, labels: numpy.ndarray, readme: str, **more: numpy.ndarray) -> None:
    """deploy/datasets/NAME/rows.npz: samples in the client's units, with 1 for anomalies."""
    target = ROOT / "deploy/datasets" / name
    target.mkdir(parents=True, exist_ok=True)
    numpy.savez_compressed(target / "rows.npz", x=x.astype("f4"), labels=labels.astype("i8"), **more)
    (target / "README.md").write_text(readme.strip() + "\n")
