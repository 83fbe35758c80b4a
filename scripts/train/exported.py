"""Model folders of checkpoints that were trained here: written by scripts/export/text.py as for any other, then given a card that says
how they were made and what they are worth."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tomllib

import numpy

import folder

ROOT = pathlib.Path(__file__).resolve().parents[2]


def export(checkpoint: pathlib.Path, target: pathlib.Path, *options: str) -> str:
    """Writes the folder, and returns what the exporter's card says of the comparison with torch."""
    command = [sys.executable, ROOT / "scripts/export/text.py", checkpoint, target, "--license", "Apache-2.0", "--overwrite", *options]
    subprocess.run(command, check=True)
    return re.search(r"## Measured against torch.*?(?=\n## |\Z)", (target / "README.md").read_text(), re.DOTALL)[0].strip()


def describe(target: pathlib.Path, description: str, training_data: list[str], card: str) -> None:
    """Replaces the card, and in quintet.toml what says where the weights come from."""
    written = tomllib.loads((target / "quintet.toml").read_text())
    with numpy.load(target / "golden.npz") as archive:
        golden = dict(archive)
    folder.write(
        target,
        kind=written["kind"],
        description=description,
        license="Apache-2.0",
        training_data=training_data,
        section=written[written["kind"].replace("-", "_")],
        golden=golden,
        golden_tolerance=written["golden_tolerance"],
        card=card,
    )
