"""Text that people wrote, in some hundred languages, out of packages that pip has installed."""

from __future__ import annotations

import ast
import importlib.util
import json
import pathlib
import pickle
import sysconfig
from collections.abc import Iterator


def _package(name: str) -> pathlib.Path:
    """Where a package lies, without importing it: Django would want its settings."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not installed: see requirements.txt")
    return pathlib.Path(spec.origin).parent


def _strings(value: object) -> Iterator[str]:
    """Every string in nested lists and dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _strings(key)
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)


def messages(path: pathlib.Path) -> Iterator[str]:
    """The sentences of a .po file. A quoted line is a Python string literal but for what no message of Django's has."""
    parts: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        head, quote, rest = line.partition('"')
        if not quote or line.startswith("#"):
            continue
        if head and parts:
            yield "".join(parts)
            parts = []
        parts.append(ast.literal_eval(quote + rest))
    if parts:
        yield "".join(parts)


def translations() -> Iterator[str]:
    """Django's interface in about a hundred languages: sentences and some paragraphs."""
    for path in sorted(_package("django").rglob("*.po")):
        yield from messages(path)


def locales() -> Iterator[str]:
    """CLDR: the names of languages, places, currencies and units, and patterns of dates, in every living script."""
    for path in sorted((_package("babel") / "locale-data").glob("*.dat")):
        yield from _strings(pickle.loads(path.read_bytes()))


def names() -> Iterator[str]:
    """Faker's lists of names, streets and sentences, as the Python source that they stand in."""
    for path in sorted((_package("faker") / "providers").rglob("*.py")):
        yield from (line.strip() for line in path.read_text("utf-8").splitlines() if not line.isascii())


def emoji() -> Iterator[str]:
    """Every emoji there is, with what it is called in a dozen languages; and the same as lines of JSON."""
    for path in sorted((_package("emoji") / "unicode_codes").glob("*.json")):
        known = json.loads(path.read_text("utf-8"))
        yield from _strings(known)
        for index, (character, record) in enumerate(known.items()):
            yield json.dumps({character: record}, ensure_ascii=index % 2 == 0, indent=index % 3 or None)


def code() -> Iterator[str]:
    """The standard library of this interpreter: of two files one line by line, one in blocks between empty lines."""
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "test", "tests", "lib2to3"}
    paths = (path for path in sorted(library.rglob("*.py")) if skipped.isdisjoint(path.parts))
    for index, path in enumerate(paths):
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        yield from text.split("\n\n") if index % 2 else text.split("\n")


def bible(root: pathlib.Path) -> Iterator[str]:
    """The repository's own text."""
    yield from (root / "deploy/datasets/kjv-heldout/text.txt").read_text("utf-8").splitlines()


def everything(root: pathlib.Path) -> Iterator[str]:
    yield from translations()
    yield from locales()
    yield from names()
    yield from emoji()
    yield from code()
    yield from bible(root)
