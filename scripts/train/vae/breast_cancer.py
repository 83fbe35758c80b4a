"""The VAE over rows of scikit-learn's breast_cancer: benign is normal, malignant is the anomaly.

    python scripts/train/vae/breast_cancer.py
"""

from __future__ import annotations

import numpy
import torch
from sklearn.datasets import load_breast_cancer

from export import export, quality, versions, write_test_set
from model import Likelihood, fit, tabular

NAME = "vae-breast-cancer"


def main() -> None:
    torch.set_num_threads(1)
    data = load_breast_cancer()
    anomalous = data.target == 0
    order = numpy.random.default_rng(0).permutation(numpy.flatnonzero(~anomalous))
    # 357 benign rows: 157 to train on, 100 to calibrate on, 100 to test with; no malignant row is ever trained on.
    train, calibration, test = order[:157], order[157:257], order[257:]
    x = data.data.astype("f8")
    mean, scale = x[train].mean(0), x[train].std(0)
    standard = torch.from_numpy((x - mean) / scale).float()

    torch.manual_seed(0)
    likelihood = Likelihood("gaussian", sigma=0.5)
    vae = fit(tabular(30, 64, 6, likelihood), standard[train], steps=3000, batch=64, augment=lambda rows: rows + 0.1 * torch.randn_like(rows))

    tested = numpy.concatenate([test, numpy.flatnonzero(anomalous)])
    labels = anomalous[tested].astype("i8")
    table = quality(vae.scores(standard[tested]), labels)
    print(table)
    write_test_set(
        "breast-cancer-heldout", x[tested], labels,
        "# breast-cancer-heldout\n\nThe 100 benign rows of scikit-learn's breast_cancer that `vae-breast-cancer` has never seen, and all 212 malignant\n"
        "ones. `rows.npz`: `x` [312, 30] in the data set's own units, `labels` [312], 1 = malignant. Written by\n"
        "`scripts/train/vae/breast_cancer.py`. Data: Wisconsin Diagnostic Breast Cancer (Wolberg et al. 1995), CC BY 4.0.",
    )  # fmt: skip
    features = [
        {"name": str(name), "mean": float(m), "scale": float(s)} for name, m, s in zip(data.feature_names, mean, scale)
    ]
    export(
        NAME, vae,
        standard=standard[calibration[:8]],
        normals=x[calibration],
        section={"data": "tabular", "shape": [30], "likelihood": "gaussian", "sigma": likelihood.sigma, "default_score": "negative_elbo", "features": features},
        description="Scores rows of cell measurements: benign is normal",
        license="Apache-2.0",
        training_data=["scikit-learn breast_cancer (Wisconsin Diagnostic Breast Cancer), CC BY 4.0: 157 benign rows"],
        card=f"""
# vae-breast-cancer

A VAE over 30 measurements of cell nuclei. It was trained on 157 benign rows alone; malignant rows are the anomalies.

* Network: dense 30–64–64–6 and back, ReLU; Gaussian likelihood with sigma {likelihood.sigma} in standardised units.
* Rows come in the data set's own units; `quintet.toml` holds each feature's mean and scale.
* Data: scikit-learn's breast_cancer (Wisconsin Diagnostic Breast Cancer, CC BY 4.0). Weights: Apache-2.0.

## Quality

{table}

## Make it, measure it again

    python scripts/train/vae/breast_cancer.py      # trains, exports and prints the table above
    quintet evaluate anomaly --model vae-breast-cancer      # through the service

{versions()}; seed 0; about 10 CPU seconds.

## Limits

An example for serving, on a small and old data set. It is no medical device.
""",
    )  # fmt: skip


if __name__ == "__main__":
    main()
