"""The folder that an export writes."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from decoder.anatomy import Unsupported


def check(output: pathlib.Path, overwrite: bool) -> None:
    """Raises Unsupported where the folder holds files that are not to be replaced."""
    if not overwrite and output.is_dir() and _files(output):
        raise Unsupported(f"{output} holds files already: say --overwrite to replace them")


def emptied(output: pathlib.Path, overwrite: bool) -> None:
    """Makes the folder, and takes away the files that it holds."""
    check(output, overwrite)
    output.mkdir(parents=True, exist_ok=True)
    for path in _files(output):
        path.unlink()


@contextlib.contextmanager
def written(output: pathlib.Path, overwrite: bool) -> Iterator[None]:
    """An empty folder to write to. Where that fails the graphs go: a folder of theirs is served without a manifest too."""
    emptied(output, overwrite)
    try:
        yield
    except BaseException:
        for path in [*output.glob("*.onnx"), *output.glob("*.onnx.data")]:
            path.unlink()
        raise


def _files(output: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in output.iterdir() if path.is_file()]
