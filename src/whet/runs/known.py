"""What a body knows at one moment: its vectors of general sentences, its losses on general text, an earlier task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from whet.data.check import Rows
from whet.data.earlier import Earlier
from whet.data.split import split
from whet.data.store import TokenStore, tokenize
from whet.engine.language import Losses, losses, masked_tokens, next_tokens
from whet.engine.precision import processes
from whet.engine.vectors import pooled_vectors
from whet.evaluate.baselines import Absent, Parts
from whet.evaluate.forgetting import Probe, Sides, probe
from whet.evaluate.general_text import pairs, paragraphs
from whet.models.depths import END, Depths, Last
from whet.models.language import Kind, language_model
from whet.models.reference import ModelFolder

TEXTS: dict[Kind, int] = {"next token": 60, "masked": 120}
"""Paragraphs that are read. Of each, all of its ninety tokens or so are predicted, or 15 % of them."""
HELD_OUT = {"test": 0.3, "valid": 0.15}
"""Of the rows of an earlier task: those that are scored, and those that choose the penalty of the probe."""


@dataclass(frozen=True)
class Language:
    """Losses of paragraphs by the checkpoint's own language-model head."""

    kind: str
    losses: Losses


@dataclass(frozen=True)
class Known:
    """`sentences` are vectors of the built-in pairs. `language` and `earlier` may be missing for the reason given;
    `earlier` is None where no earlier task was named."""

    sentences: Sides
    language: Language | str
    earlier: Probe | str | None

    def keep(self, path: Path) -> None:
        """Write a file: whole, or not there."""
        arrays = {"left": self.sentences.left, "right": self.sentences.right}
        facts: dict[str, Any] = {"language": self.language, "earlier": self.earlier}
        if isinstance(self.language, Language):
            arrays |= {"sums": self.language.losses.sums, "tokens": self.language.losses.tokens}
            facts["language"] = {"kind": self.language.kind}
        if isinstance(self.earlier, Probe):
            arrays["probabilities"] = self.earlier.probabilities
            facts["earlier"] = {"penalty": self.earlier.penalty}
        temporary = path.with_suffix(".tmp")
        whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        save_file(whole, str(temporary), metadata={"facts": json.dumps(facts)})
        temporary.replace(path)

    @staticmethod
    def kept(path: Path) -> Known:
        """What `keep` wrote."""
        with safe_open(str(path), "numpy") as file:
            facts, read = json.loads(file.metadata()["facts"]), file.get_tensor
            language, earlier = facts["language"], facts["earlier"]
            if isinstance(language, dict):
                language = Language(language["kind"], Losses(read("sums"), read("tokens")))
            if isinstance(earlier, dict):
                earlier = Probe(read("probabilities"), earlier["penalty"])
            return Known(Sides(read("left"), read("right")), language, earlier)


@dataclass(frozen=True)
class Body:
    """What turns texts into vectors, and how it is asked. `left_over` are the weights of the checkpoint that are not
    the body's, `depth` the blocks that it is kept to, if it is; general texts are cut at `limit` tokens, those of an
    earlier task at `max_length`."""

    source: ModelFolder
    module: Any
    pooling: str
    tokenizer: Any
    left_over: tuple[str, ...]
    depth: int | None
    limit: int
    max_length: int
    token_budget: int

    def knows(self, earlier: Earlier | None, seed: int) -> Known:
        """All of it, in fp32 and eval mode. `seed` divides the rows of an earlier task."""
        general = pairs()
        vectors = self.vectors(general.sentences, self.limit)
        half = len(general.scores)
        of_earlier = None if earlier is None else self.probe(earlier, seed)
        return Known(Sides(vectors[:half], vectors[half:]), self.language(), of_earlier)

    def vectors(self, texts: tuple[str, ...], limit: int) -> np.ndarray:
        """One vector per text: N x H."""
        last = Depths(Last(self.module), (0,), (END,), None)
        store = self.store(texts, limit)
        found = pooled_vectors(last, (self.pooling,), store, self.token_budget, "fp32", processes().device)
        return found[0, self.pooling].numpy()

    def store(self, texts: tuple[str, ...], limit: int) -> TokenStore:
        return tokenize(Rows("texts", texts, (), tuple(range(1, len(texts) + 1))), self.tokenizer, limit)

    def language(self) -> Language | str:
        if self.depth is not None:
            return f"the body is kept to {self.depth} blocks, and a language-model head fits the whole"
        found = language_model(self.source, self.module, self.left_over)
        if isinstance(found, str):
            return found
        store, mask = self.store(paragraphs()[: TEXTS[found.kind]], self.limit), self.tokenizer.mask_token_id
        if found.kind == "next token":
            asked = next_tokens(store)
        elif mask is None:
            return "its tokenizer has no token that masks another"
        else:
            asked = masked_tokens(store, mask, self.tokenizer.all_special_ids)
        return Language(found.kind, losses(found.model, asked, self.token_budget, processes().device))

    def probe(self, earlier: Earlier, seed: int) -> Probe | str:
        rows, classes = divided(earlier, seed), len(earlier.labels)
        each = (self.vectors(part.texts, self.max_length) for part in (rows.train, rows.valid, rows.test))
        found = probe(Parts(*each), numbered(rows, earlier.labels), classes, seed)
        return found.reason if isinstance(found, Absent) else found


def divided(earlier: Earlier, seed: int) -> Parts[Rows]:
    """The rows to fit on, to choose the penalty with, and to score."""
    train, held = split(earlier.rows, HELD_OUT, seed)
    return Parts(train, held["valid"], held["test"])


def numbered(rows: Parts[Rows], labels: tuple[str, ...]) -> Parts[np.ndarray]:
    """The number of each row's label."""
    numbers = {label: number for number, label in enumerate(labels)}
    each = (np.array([numbers[label] for label in part.labels]) for part in (rows.train, rows.valid, rows.test))
    return Parts(*each)
