"""Golden values of the evaluation metrics, from numpy, scipy and scikit-learn.

    python scripts/golden/metrics.py      # writes crates/evaluation/src/engine/metrics/golden.json
"""

from __future__ import annotations

import json
import pathlib

import numpy
import scipy
import sklearn
from scipy.linalg import sqrtm
from sklearn.metrics import average_precision_score, roc_auc_score

TARGET = pathlib.Path(__file__).resolve().parents[2] / "crates/evaluation/src/engine/metrics/golden.json"


def matrix(rows: int, columns: int, seed: int) -> numpy.ndarray:
    """The same numbers as `golden::matrix` in Rust."""
    values, state = [], seed
    for _ in range(rows * columns):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append((state >> 32) / 2**32)
    return numpy.array(values).reshape(rows, columns)


def fid(a: numpy.ndarray, b: numpy.ndarray) -> float:
    covariance_a, covariance_b = numpy.cov(a, rowvar=False), numpy.cov(b, rowvar=False)
    root = sqrtm(covariance_a @ covariance_b)
    difference = a.mean(0) - b.mean(0)
    return float(difference @ difference + numpy.trace(covariance_a + covariance_b - 2 * root.real))


def kid(a: numpy.ndarray, b: numpy.ndarray) -> float:
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3  # noqa: E731
    n = len(a)
    within = [(k.sum() - numpy.trace(k)) / (n * (n - 1)) for k in (kernel(a, a), kernel(b, b))]
    return float(sum(within) - 2 * kernel(a, b).mean())


def inception_score(logits: numpy.ndarray, splits: int = 10) -> float:
    probabilities = numpy.exp(logits - scipy.special.logsumexp(logits, axis=1, keepdims=True))
    scores = []
    for part in numpy.array_split(probabilities, splits):
        divergence = (part * (numpy.log(part) - numpy.log(part.mean(0)))).sum(1)
        scores.append(numpy.exp(divergence.mean()))
    return float(numpy.mean(scores))


def main() -> None:
    a, b = matrix(300, 16, 1), matrix(200, 16, 2) * 1.3 + 0.1
    scores = numpy.floor(matrix(1, 400, 6)[0] * 40)
    labels = matrix(1, 400, 7)[0] + scores / 80 > 0.9
    golden = {
        "versions": {"numpy": numpy.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__},
        "fid": fid(a, b),
        "fid_rank_deficient": fid(matrix(10, 16, 3), matrix(12, 16, 4)),
        "kid": kid(a[:200], b),
        "inception_score": inception_score(matrix(250, 7, 5) * 8),
        "roc_auc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
    }
    TARGET.write_text(json.dumps(golden, indent=2) + "\n")


if __name__ == "__main__":
    main()
