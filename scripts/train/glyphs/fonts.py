"""Glyphs of A–Z and 0–9 at 32×32, rendered from Debian's OFL and Apache-2.0 fonts.

Dark ink on white paper: 0 is ink, 255 is paper. Families are told apart by package, the coarsest split there is:
no cut of a typeface is on both sides.
"""

from __future__ import annotations

import hashlib
import pathlib
import subprocess

import numpy
from fontTools.ttLib import TTFont, TTLibError
from PIL import Image, ImageDraw, ImageFont

CLASSES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIZE = 32
CAPITAL_HEIGHT = 22
# Rendered this much larger and averaged down: PIL's own hinting at 22 pixels would bend thin strokes.
OVERSAMPLING = 4
# Of its 36 glyphs, a font must have this many nearer to their own class's mean than to any other's; below it are
# symbols, ornaments and scripts that nobody reads as Latin capitals.
LEGIBLE_GLYPHS = 14
# Packages whose name hashes below this share of the range are held out.
HELD_OUT_SHARE = 0.2

PACKAGES = pathlib.Path(__file__).with_name("packages.txt")


def font_files() -> list[tuple[str, pathlib.Path]]:
    """(package, file) of every font, in order of name."""
    packages = [line.split("\t")[0] for line in PACKAGES.read_text().splitlines() if not line.startswith("#")]
    files = []
    for package in packages:
        listing = subprocess.run(["dpkg", "-L", package], check=True, capture_output=True, text=True).stdout
        files += [(package, pathlib.Path(line)) for line in listing.splitlines() if line.endswith((".ttf", ".otf"))]
    return sorted(files)


def held_out(package: str) -> bool:
    digest = hashlib.sha256(package.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE


def render(file: pathlib.Path) -> numpy.ndarray | None:
    """The 36 glyphs of one font, uint8 [36, 32, 32]; None where the font cannot be used."""
    try:
        characters = TTFont(file, fontNumber=0, lazy=True).getBestCmap() or {}
        if any(ord(character) not in characters for character in CLASSES):
            return None
        probe = ImageFont.truetype(str(file), 200)
        _, top, _, bottom = probe.getbbox("H")
        if bottom - top < 20:
            return None
        font = ImageFont.truetype(str(file), round(200 * CAPITAL_HEIGHT * OVERSAMPLING / (bottom - top)))
        return numpy.stack([_glyph(font, character) for character in CLASSES])
    except (OSError, TTLibError, ValueError, KeyError, AssertionError):
        return None


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> numpy.ndarray:
    side = SIZE * OVERSAMPLING
    left, top, right, bottom = font.getbbox(character)
    width, height = right - left, bottom - top
    if width < 2 or height < 2:
        raise ValueError(f"an empty glyph for {character}")
    ink = Image.new("L", (width, height), 255)
    ImageDraw.Draw(ink).text((-left, -top), character, font=font, fill=0)
    largest = 30 * OVERSAMPLING
    if max(width, height) > largest:
        shrink = largest / max(width, height)
        ink = ink.resize((max(1, round(width * shrink)), max(1, round(height * shrink))), Image.Resampling.BOX)
    page = Image.new("L", (side, side), 255)
    page.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return numpy.asarray(page.resize((SIZE, SIZE), Image.Resampling.BOX))


def load(cache: pathlib.Path) -> dict[str, numpy.ndarray]:
    """Every usable, distinct, legible font: `images` uint8 [fonts, 36, 32, 32] and `held_out` bool [fonts]."""
    file = cache / "glyphs.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        images, packages, seen = [], [], set()
        for package, path in font_files():
            glyphs = render(path)
            if glyphs is None or len({glyph.tobytes() for glyph in glyphs}) < 34:
                continue
            # Cuts that differ in hinting alone look the same at this size.
            look = (glyphs // 32).tobytes()
            if look not in seen:
                seen.add(look)
                images.append(glyphs)
                packages.append(package)
        images = numpy.stack(images)
        legible = _legible_glyphs(images) >= LEGIBLE_GLYPHS
        out = numpy.array([held_out(package) for package in packages])
        numpy.savez_compressed(file, images=images[legible], held_out=out[legible], packages=numpy.array(packages)[legible])
    return dict(numpy.load(file))


def _legible_glyphs(images: numpy.ndarray) -> numpy.ndarray:
    """How many of each font's glyphs are nearest to their own class's mean, by correlation."""
    flat = images.reshape(len(images), 36, -1).astype("f4")
    flat -= flat.mean(-1, keepdims=True)
    flat /= numpy.linalg.norm(flat, axis=-1, keepdims=True) + 1e-6
    means = flat.mean(0)
    means /= numpy.linalg.norm(means, axis=-1, keepdims=True)
    nearest = (flat @ means.T).argmax(-1)
    return (nearest == numpy.arange(36)).sum(-1)
