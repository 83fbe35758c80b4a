"""Writes a model folder: quintet.toml with the SHA-256 of each file, golden pairs, and the card.

A model folder is what the services load (see ARCHITECTURE.md, "Model folders"). Everything in it
but `quintet.toml` itself is hashed, so a file that was cut short or swapped is refused at load.
"""

from __future__ import annotations

import hashlib
import json
import pathlib

import numpy
import onnx
import onnxruntime

# Golden pairs are made by the reference runtime on the CPU; the services run them again at load.
REFERENCE_PROVIDER = ["CPUExecutionProvider"]


def golden_pairs(graph: pathlib.Path, inputs: dict[str, numpy.ndarray], outputs: list[str]) -> dict[str, numpy.ndarray]:
    """Runs `graph` on `inputs` and returns npz entries `STEM/in/NAME` and `STEM/out/NAME`."""
    session = onnxruntime.InferenceSession(str(graph), providers=REFERENCE_PROVIDER)
    results = session.run(outputs, inputs)
    entries = {f"{graph.stem}/in/{name}": value for name, value in inputs.items()}
    entries |= {f"{graph.stem}/out/{name}": value for name, value in zip(outputs, results)}
    # Floats of 16 bits are kept as such of 32, which the reader knows.
    arrays = {name: numpy.asarray(value) for name, value in entries.items()}
    return {name: array.astype("f4") if array.dtype == numpy.float16 else array for name, array in arrays.items()}


def strip(graph: pathlib.Path) -> None:
    """Takes out of a graph what its exporter noted for itself: stack traces with the paths of the machine it ran on."""
    model = onnx.load(graph, load_external_data=False)
    parts = [model]
    while parts:
        part = parts.pop()
        for field, value in part.ListFields():
            if field.name in ("doc_string", "metadata_props"):
                part.ClearField(field.name)
            elif field.message_type:
                parts.extend(value if field.is_repeated else [value])
    onnx.save(model, graph)


def write(
    folder: pathlib.Path,
    *,
    kind: str,
    description: str,
    license: str,
    training_data: list[str],
    section: dict,
    golden: dict[str, numpy.ndarray],
    golden_tolerance: float,
    card: str,
) -> None:
    """Completes `folder`, whose graphs and tokenizer are already there, with golden pairs, card and quintet.toml.

    `section` is the table named after the kind (`[gan]`, `[vae]`, …); `golden_tolerance` is the largest
    difference allowed between a golden output and the runtime's, absolute for values below 1 and relative above.
    """
    for graph in sorted(folder.glob("*.onnx")):
        strip(graph)
    numpy.savez_compressed(folder / "golden.npz", **golden)
    (folder / "README.md").write_text(card.strip() + "\n")
    hashes = {
        path.name: _digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in ("quintet.toml", "README.md")
    }
    lines = [
        "schema = 1",
        f"kind = {_value(kind)}",
        f"description = {_value(description)}",
        f"license = {_value(license)}",
        f"training_data = {_value(training_data)}",
        f"golden_tolerance = {golden_tolerance}",
        "",
        *_table([kind.replace("-", "_")], section),
        "[sha256]",
        *(f"{_value(name)} = {_value(digest)}" for name, digest in hashes.items()),
    ]
    (folder / "quintet.toml").write_text("\n".join(lines) + "\n")


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _table(path: list[str], table: dict) -> list[str]:
    """A TOML table; a dict becomes a table in it, a list of dicts an array of tables."""
    plain = {k: v for k, v in table.items() if not _is_tables(v) and not isinstance(v, dict)}
    lines = [f"[{'.'.join(path)}]", *(f"{_key(k)} = {_value(v)}" for k, v in plain.items()), ""]
    for key, inner in table.items():
        if isinstance(inner, dict):
            lines += _table([*path, key], inner)
    for key, rows in table.items():
        if _is_tables(rows):
            for row in rows:
                lines += [f"[[{'.'.join([*path, key])}]]", *(f"{k} = {_value(v)}" for k, v in row.items()), ""]
    return lines


def _is_tables(value) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() else json.dumps(name)


def _value(value) -> str:
    """A TOML value: JSON's spelling of strings, numbers, booleans and lists is TOML's too."""
    return json.dumps(value, ensure_ascii=False)
