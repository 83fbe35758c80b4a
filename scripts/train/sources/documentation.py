"""Python's documentation, from Debian's `python3.11-doc` package. PSF licence."""

from __future__ import annotations

import pathlib
import re
import textwrap

FOLDER = pathlib.Path("/usr/share/doc/python3.11/html/_sources")
# Directives whose content is prose: a signature or a title on the first line, paragraphs below.
DESCRIPTIONS = re.compile(
    r"\.\. (?:c:|py:)?(?:function|method|class|attribute|data|exception|classmethod|staticmethod|opcode|type|macro|member|describe"
    r"|decorator)\w*::\s*(.*)"
)
ADMONITIONS = re.compile(r"\.\. (?:note|warning|tip|seealso|impl-detail|admonition|versionchanged|versionadded|deprecated)::\s*(.*)")
ITEM = re.compile(r"(?:[*+-]|\d+\.|\(\d+\)|#\.)\s+")
# Of a file's paragraphs at least so many bytes must be prose.
SHORTEST = 400


def files() -> list[str]:
    """The prose of each file: paragraphs apart by a blank line, roles and markup taken off, without code and tables."""
    texts = (prose(path.read_text(encoding="utf-8", errors="replace")) for path in sorted(FOLDER.rglob("*.rst.txt")))
    return [text for text in texts if len(text.encode()) >= SHORTEST]


def sentences(text: str, with_code: bool = False) -> list[str]:
    """The whole sentences of a file's prose; on request those, too, in which there are signs that prose has not, as in `_exit`."""
    parts = [part for paragraph in text.split("\n\n") for part in re.split(r"(?<=[.?!])\s+(?=[A-Z])", paragraph)]
    signs = r"[ -~]" if with_code else r"[A-Za-z0-9 ,;:'\"()?!.\-]"
    return [part for part in parts if re.fullmatch(rf"[A-Z]{signs}*[.?!]", part) and len(part.split()) >= 4]


def prose(source: str) -> str:
    """Plain paragraphs of a reStructuredText file."""
    return "\n\n".join(_paragraphs(source.expandtabs(8).splitlines()))


def _paragraphs(lines: list[str]) -> list[str]:
    found, at = [], 0
    while at < len(lines):
        block, at = _block(lines, at)
        first = block[0] if block else ""
        if first.startswith(".. "):
            described, admonition = DESCRIPTIONS.match(first), ADMONITIONS.match(first)
            if described or admonition:
                if described:
                    # The signature may take several lines.
                    signature = _plain(DESCRIPTIONS.sub(r"\1", _joined(_without_options(block))))
                    found += [signature] if signature else []
                    body, at = _indented(lines, at)
                else:
                    body, at = _indented(lines, at - len(block) + 1)
                found += _paragraphs(body)
            else:
                _, at = _indented(lines, at - len(block) + 1)
        elif first.startswith(" "):
            # Quoted, or the content of something that was left out: prose where it reads like prose.
            found += [text for text in [_plain(_joined(block))] if _reads(text)]
        elif block:
            text = _plain(_joined([line for line in block if not _ruler(line)]))
            found += [text] if _reads(text) else []
            if block[-1].rstrip().endswith("::"):
                _, at = _indented(lines, at)
    return found


def _block(lines: list[str], at: int) -> tuple[list[str], int]:
    """The lines up to the next blank one, or the next item of a list, and where it goes on."""
    while at < len(lines) and not lines[at].strip():
        at += 1
    begin = at
    while at < len(lines) and lines[at].strip() and not (at > begin and ITEM.match(lines[at].lstrip())):
        at += 1
    return lines[begin:at], at


def _indented(lines: list[str], at: int) -> tuple[list[str], int]:
    """The indented lines from here on, without their indent, and where it goes on."""
    begin = at
    while at < len(lines) and (not lines[at].strip() or lines[at].startswith(" ")):
        at += 1
    return textwrap.dedent("\n".join(_without_options(lines[begin:at]))).splitlines(), at


def _without_options(lines: list[str]) -> list[str]:
    """Without a directive's options, such as `:noindex:`; a line may also begin with a role, which is text."""
    return [line for line in lines if not re.match(r"\s+:[\w-]+:(?!`)", line)]


def _joined(block: list[str]) -> str:
    return re.sub(r"\s+", " ", " ".join(line.strip() for line in block))


def _ruler(line: str) -> bool:
    return bool(re.fullmatch(r"([=\-~^*#\"+.])\1{2,}|[=\s|+\-]{4,}", line.strip()))


def _plain(text: str) -> str:
    """Without markup: :class:`dict` is dict, ``x`` is x."""
    text = ITEM.sub("", text, count=1) if ITEM.match(text) else text
    text = re.sub(r":[\w:+-]+:`([^`<]+?)\s*<[^>]*>`", r"\1", text)
    text = re.sub(r":[\w:+-]+:`[!~]?([^`]+)`", r"\1", text)
    text = re.sub(r"``([^`]+)``", r"\1", text)
    text = re.sub(r"`([^`<]+?)(?:\s*<[^>]*>)?`_{0,2}", r"\1", text)
    text = re.sub(r"\*{1,2}([^*\s][^*]*?)\*{1,2}", r"\1", text)
    text = re.sub(r"\|(\w+)\|", r"\1", text).replace("\\", "")
    return re.sub(r"\s*::$", ":", text).strip()


def _reads(text: str) -> bool:
    """Whether it is prose, or a title: words, not a prompt, a table or code."""
    if re.match(r">>>|\.\.\.|[|+$%]", text):
        return False
    words = re.findall(r"[A-Za-z]{2,}", text)
    return bool(words) and sum(map(len, words)) >= 0.6 * len(text)
