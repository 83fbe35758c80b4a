"""Renders overlays, as they are and with components, as a user adds them: in an overlay of one's own."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "deploy/k8s"


def names(kind: str) -> list[str]:
    """The overlays, or the components, that there are."""
    return sorted(path.parent.name for path in (SOURCE / kind).glob("*/kustomization.yaml"))


def objects(rendered: str) -> list[dict]:
    return [item for item in yaml.safe_load_all(rendered) if item]


def render(overlay: str, components: tuple[str, ...] = ()) -> str:
    """The objects of an overlay with components, as YAML."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch, "k8s")
        shutil.copytree(SOURCE, tree)
        folder = tree / "overlays" / "mine"
        shutil.copytree(tree / "overlays" / overlay, folder)
        file = folder / "kustomization.yaml"
        file.write_text(file.read_text() + yaml.safe_dump({"components": [f"../../components/{name}" for name in components]}))
        command = [os.environ.get("KUBECTL", "kubectl"), "kustomize", str(folder)]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"kustomize {overlay} with {', '.join(components) or 'nothing'}: {done.stderr}")
    return done.stdout
