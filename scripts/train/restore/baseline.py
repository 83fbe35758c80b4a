"""What counting pairs of words restores: the measure of what a model must beat."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import data

EDGE = "</s>"
# How many sightings of a pair weigh as much as what is known of its words apart.
PRIOR = 2.0
MARKS = re.escape(data.PUNCTUATION)


class Bigram:
    """Writes each word in the form that is likeliest behind the mark before it, and between two words the marks that are likeliest
    there: P(marks | word, next word), backed off to the mean of P(marks | word) and P(marks | next word)."""

    def __init__(self, texts: list[str]):
        self.forms: dict[tuple[str, bool], Counter] = defaultdict(Counter)
        self.anywhere: dict[str, Counter] = defaultdict(Counter)
        self.pairs: dict[tuple[str, str], Counter] = defaultdict(Counter)
        self.after: dict[str, Counter] = defaultdict(Counter)
        self.before: dict[str, Counter] = defaultdict(Counter)
        for text in texts:
            words, forms, gaps = parse(text)
            begins = True
            for word, form, gap in zip(words, forms, gaps[1:]):
                self.forms[word, begins][form] += 1
                self.anywhere[word][form] += 1
                begins = ends(gap)
            for left, right, gap in zip([EDGE, *words], [*words, EDGE], gaps):
                self.pairs[left, right][gap] += 1
                self.after[left][gap] += 1
                self.before[right][gap] += 1

    def restore(self, text: str) -> str:
        words = text.split()
        gaps = [self._gap(left, right) for left, right in zip([EDGE, *words], [*words, EDGE])]
        begins, out = True, gaps[0].lstrip()
        for word, gap in zip(words, gaps[1:]):
            out += self._form(word, begins) + gap
            begins = ends(gap)
        return out.rstrip()

    def _form(self, word: str, begins: bool) -> str:
        seen = self.forms.get((word, begins)) or self.anywhere.get(word)
        if seen:
            return seen.most_common(1)[0][0]
        return word.capitalize() if begins else word

    def _gap(self, left: str, right: str) -> str:
        pair, after, before = self.pairs.get((left, right), Counter()), self.after.get(left, Counter()), self.before.get(right, Counter())

        def likelihood(gap: str) -> float:
            apart = sum(counts[gap] / max(1, counts.total()) for counts in (after, before)) / 2
            return (pair[gap] + PRIOR * apart) / (pair.total() + PRIOR)

        plain = "" if EDGE in (left, right) else " "
        return max([plain, *pair, *after, *before], key=likelihood)


def ends(gap: str) -> bool:
    """Whether a sentence ends at these marks."""
    return any(mark in gap for mark in ".?!")


def parse(text: str) -> tuple[list[str], list[str], list[str]]:
    """The stripped words of a text, each as it was written, and what stands before, between and behind them."""
    words, forms, gaps = [], [], [""]
    for token in text.split():
        opening, form, closing = re.fullmatch(f"([{MARKS}]*)(.*?)([{MARKS}]*)", token).groups()
        lead = " " if words else ""
        if not form:
            gaps[-1] += lead + opening
            continue
        gaps[-1] += lead + opening
        words.append(data.stripped(form))
        forms.append(form)
        gaps.append(closing)
    return words, forms, gaps
