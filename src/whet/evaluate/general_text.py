"""General English that tuning should not spoil: pairs of sentences with scores, and paragraphs. Written for whet."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

FOLDER = files("whet.evaluate") / "general"


@dataclass(frozen=True)
class Pairs:
    """P pairs of sentences. `scores` (P) say how alike they are in meaning, from 0 (nothing in common) to 5 (the same),
    on the scale of the shared tasks on semantic similarity (Agirre et al. 2012, https://aclanthology.org/S12-1051)."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    scores: np.ndarray

    @property
    def sentences(self) -> tuple[str, ...]:
        """All left ones, then all right ones."""
        return self.left + self.right


@cache
def pairs() -> Pairs:
    rows = list(csv.DictReader((FOLDER / "pairs.csv").read_text(encoding="utf-8").splitlines()))
    scores = np.array([float(row["score"]) for row in rows])
    return Pairs(tuple(row["text_a"] for row in rows), tuple(row["text_b"] for row in rows), scores)


@cache
def paragraphs() -> tuple[str, ...]:
    """Of sixty to ninety words each: explanations and small stories by turns."""
    return tuple((FOLDER / "paragraphs.txt").read_text(encoding="utf-8").strip().split("\n\n"))
