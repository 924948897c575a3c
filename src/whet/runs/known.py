"""What a body knows at one moment: its vectors of general sentences, its losses on general text, an earlier task."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
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
from whet.models.heads import Head
from whet.models.kept import labels_of, load_head
from whet.models.language import Kind, language_model
from whet.models.others import saved_for
from whet.models.reference import ModelFolder

FORMAT = 1
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
class Task:
    """An earlier task by a probe, which may be missing for the reason given; and by the head that came with the model:
    probabilities of the held-out rows (T x C), None where it brought no pooled head for these labels."""

    probe: Probe | str
    own: np.ndarray | None


@dataclass(frozen=True)
class Known:
    """`sentences` are vectors of the built-in pairs. `language` may be missing for the reason given; `earlier` is None
    where no earlier task was named."""

    sentences: Sides
    language: Language | str
    earlier: Task | None

    def keep(self, path: Path) -> None:
        """Write a file: whole, or not there. Not flushed to the disk: what a crash leaves torn is seen when it is
        read."""
        arrays = {"left": self.sentences.left, "right": self.sentences.right}
        facts: dict[str, Any] = {"language": self.language, "probe": None}
        if isinstance(self.language, Language):
            arrays |= {"sums": self.language.losses.sums, "tokens": self.language.losses.tokens}
            facts["language"] = {"kind": self.language.kind}
        if self.earlier is not None:
            arrays |= {} if self.earlier.own is None else {"own": self.earlier.own}
            facts["probe"] = self.earlier.probe
            if isinstance(self.earlier.probe, Probe):
                arrays["probabilities"] = self.earlier.probe.probabilities
                facts["probe"] = {"penalty": self.earlier.probe.penalty}
        temporary = path.with_suffix(f".{os.getpid()}")
        whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        save_file(whole, str(temporary), metadata={"facts": json.dumps(facts), "sha256": digest(whole)})
        temporary.replace(path)

    @staticmethod
    def kept(path: Path | None) -> Known | None:
        """What `keep` wrote; None where there is nothing whole."""
        if path is None or not path.exists():
            return None
        try:
            with safe_open(str(path), "numpy") as file:
                arrays, said = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        if said["sha256"] != digest(arrays):
            return None
        facts = json.loads(said["facts"])
        language, found = facts["language"], facts["probe"]
        if isinstance(language, dict):
            language = Language(language["kind"], Losses(arrays["sums"], arrays["tokens"]))
        if isinstance(found, dict):
            found = Probe(arrays["probabilities"], found["penalty"])
        earlier = None if found is None else Task(found, arrays.get("own"))
        return Known(Sides(arrays["left"], arrays["right"]), language, earlier)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays by name."""
    made = hashlib.sha256()
    for name in sorted(arrays):
        made.update(name.encode() + arrays[name].tobytes())
    return made.hexdigest()


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
        of_earlier = None if earlier is None else self.task(earlier, seed)
        return Known(Sides(vectors[:half], vectors[half:]), self.language(), of_earlier)

    def asked(self, identity: str, earlier: Earlier | None, seed: int) -> str:
        """A name for all that `knows` depends on: what is asked, and `identity`, the weights and the machine."""
        made = hashlib.sha256(json.dumps([FORMAT, identity, self.pooling, self.max_length, seed]).encode())
        for texts in (pairs().sentences, paragraphs()):
            made.update(self.store(texts, self.limit).fingerprint)
        if earlier is not None:
            made.update(earlier.rows.fingerprint.encode())
        return made.hexdigest()

    def vectors(self, texts: tuple[str, ...], limit: int) -> np.ndarray:
        """One vector per text: N x H."""
        device, store = processes().device, self.store(texts, limit)
        last = Depths(Last(self.module).to(device), (0,), (END,), None)
        found = pooled_vectors(last, (self.pooling,), store, self.token_budget, "fp32", device)
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

    def task(self, earlier: Earlier, seed: int) -> Task:
        rows, labels = divided(earlier, seed), self.labels(earlier)
        each = [self.vectors(part.texts, self.max_length) for part in (rows.train, rows.valid, rows.test)]
        found = probe(Parts(*each), numbered(rows, labels), len(labels), seed)
        return Task(found.reason if isinstance(found, Absent) else found, self.by_own_head(each[2], labels))

    def labels(self, earlier: Earlier) -> tuple[str, ...]:
        """The labels of an earlier task as they are numbered: by the head that came with the model, if it has them."""
        own = labels_of(self.source)
        return own if own is not None and set(own) >= set(earlier.labels) else earlier.labels

    def by_own_head(self, vectors: np.ndarray, labels: tuple[str, ...]) -> np.ndarray | None:
        """Probabilities by the pooled head that came with the model, where it was made for these labels and reads the
        same vectors."""
        edit = saved_for(self.source, labels)
        if edit is None or edit.pooling != self.pooling:
            return None
        head = Head(vectors.shape[1], len(labels), edit)
        load_head(head, self.source)
        with torch.inference_mode():
            return head.eval()(torch.from_numpy(vectors)).softmax(1).numpy()


def divided(earlier: Earlier, seed: int) -> Parts[Rows]:
    """The rows to fit on, to choose the penalty with, and to score."""
    train, held = split(earlier.rows, HELD_OUT, seed)
    return Parts(train, held["valid"], held["test"])


def numbered(rows: Parts[Rows], labels: tuple[str, ...]) -> Parts[np.ndarray]:
    """The number of each row's label."""
    numbers = {label: number for number, label in enumerate(labels)}
    each = (np.array([numbers[label] for label in part.labels]) for part in (rows.train, rows.valid, rows.test))
    return Parts(*each)
