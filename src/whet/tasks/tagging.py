"""A tag for each word: names and other entities, parts of speech."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from whet.config import Settings
from whet.data import schemes
from whet.data.check import TEXT_NAMES, Rows, Wishes
from whet.data.pieces import Pieces, pieces
from whet.data.read import Table
from whet.data.store import NO_LOSS, Encoder, Part, Ragged, Targets
from whet.data.tagged import TOKEN_NAMES, Tagged, cells, sentences
from whet.errors import DataError, SettingsError
from whet.evaluate import by_sentence, entities, tag_scores
from whet.evaluate.by_sentence import Counted
from whet.evaluate.facts import Metric
from whet.evaluate.intervals import Interval
from whet.evaluate.paired import Comparison
from whet.evaluate.tag_scores import rows_first, starts_of
from whet.evaluate.transitions import likeliest
from whet.models.heads import Output
from whet.tasks.material import Found, Material, Tested
from whet.tasks.tag_usage import ENTITIES, TAGS
from whet.tasks.task import Task, Usage
from whet.tasks.word_baselines import word_baselines

FEW = 20
"""Below so many true entities, or wrong words, an interval of their score may be too narrow: a rule of thumb."""


@dataclass(frozen=True)
class Tagging(Tagged, Task):
    """`weights` holds the weight of each tag in the loss (1.0 each when not balanced). With `valid_tags`, predictions
    are the likeliest tags that may follow one another, else each word's likeliest."""

    name: ClassVar[str] = "tagging"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "entity_f1": Metric("entity F1", title="Entity F1"),
        "accuracy": Metric("token accuracy", title="Token accuracy"),
        "log_loss": Metric("log-loss", lower_is_better=True, percent=False, title="Log-loss"),
    }
    loss_metric: ClassVar[str] = "log_loss"
    options: ClassVar[frozenset[str]] = frozenset({"class_weight", "label_smoothing", "clean_labels", "valid_tags"})
    usage: ClassVar[Usage] = ENTITIES
    nothing: ClassVar[Mapping[str, Any]] = {"prediction": [], "probability": 0.0, "tokens": [], "tags": []}

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    label_smoothing: float = 0.0
    metric: str = "entity_f1"
    valid_tags: bool = False

    @classmethod
    def chosen_by(cls, settings: Settings) -> str:
        """Whether tags mark entities shows with the rows; before that, the scores of both kinds are right."""
        every = {**Tagging.metrics, **PlainTags.metrics} if cls is Tagging else cls.metrics
        if settings.metric is not None and settings.metric not in every:
            raise SettingsError(
                f"metric = {settings.metric}: {cls.name} is measured by {', '.join(every)}; choose of these"
            )
        return settings.metric or next(iter(cls.metrics))

    @classmethod
    def of(cls, train: Rows, labels: tuple[str, ...], settings: Settings) -> Self:
        """Balanced weights are words / (tags * words of the tag), 1 for a tag that no word has."""
        numbers = np.concatenate([_numbered(tags, labels) for tags in train.labels])
        counts = np.bincount(numbers, minlength=len(labels))
        balanced = np.where(counts > 0, len(numbers) / (len(labels) * np.maximum(counts, 1)), 1.0)
        weights = balanced if settings.class_weight == "balanced" else np.ones(len(labels))
        kind = cls.kind(labels)
        metric = kind.chosen_by(settings)
        if metric not in kind.metrics:
            raise SettingsError(
                f"metric = {metric}: these tags {'mark entities' if kind is Tagging else 'mark no entities'}, and are "
                f"measured by {', '.join(kind.metrics)}; choose of these"
            )
        return kind(labels, tuple(weights.tolist()), settings.label_smoothing, metric, settings.valid_tags)

    @classmethod
    def restored(cls, labels: tuple[str, ...], state: Mapping[str, Any]) -> Self:
        kind = cls.kind(labels)
        metric = next(iter(kind.metrics))
        return kind(labels, (1.0,) * len(labels), metric=metric, valid_tags=bool(state["valid_tags"]))

    @classmethod
    def kind(cls, labels: tuple[str, ...]) -> type[Self]:
        """The class for tags that mark entities, or for plain ones."""
        found: Any = Tagging if entities.types_of(labels) else PlainTags
        return found

    def state(self) -> dict[str, Any]:
        return {"valid_tags": self.valid_tags}

    @property
    def output(self) -> Output:
        return Output(self.labels, "token", None)

    # What the engine asks

    def truth(self, rows: Rows) -> np.ndarray:
        """An array of tag numbers for each sentence."""
        numbers = [_numbered(tags, self.labels) for tags in rows.labels]
        return rows_first(np.concatenate([np.zeros(0, np.int64), *numbers]), starts_of(numbers))

    def targets(self, rows: Rows) -> Targets:
        """The tags' numbers by sentence; which token carries which shows when they are encoded."""
        return Ragged.of(list(self.truth(rows)))

    def encode(self, rows: Rows, encoder: Encoder) -> Part:
        made = pieces(rows, encoder.tokenizer, encoder.max_length, encoder.told)
        targets: Targets = np.zeros(0)
        if rows.labels:
            numbers = np.concatenate([np.zeros(0, np.int64), *self.truth(rows)])
            targets = made.words.targets(numbers, made.store.starts)
        return Part(made.store, targets, tuple(rows.lines[number] for number in made.words.source), made)

    def noticed(self, parts: Mapping[str, Part]) -> list[str]:
        notes = []
        for name, part in parts.items():
            made: Pieces = part.beside
            if made.divided:
                notes.append(
                    f"{name}: {made.divided} sentences are longer than {made.store.max_length} tokens and are read in "
                    f"{made.windows} overlapping windows; each word counts once"
                )
            if made.lacking:
                notes.append(f"{name}: {made.lacking} words give no sub-word and are read at an unknown one")
        return notes

    def count(self, targets: Targets) -> float:
        """The sum of the weights of the words."""
        assert isinstance(targets, Ragged)
        numbers = targets.values[targets.values != NO_LOSS]
        return float(np.asarray(self.weights)[numbers].sum())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum over words of the weighted cross-entropy in nats; rows x tokens x tags, rows x tokens."""
        weight = None
        if any(value != 1.0 for value in self.weights):
            weight = torch.tensor(self.weights, dtype=outputs.dtype, device=outputs.device)
        return nn.functional.cross_entropy(
            outputs.flatten(0, 1),
            targets.flatten(),
            weight=weight,
            ignore_index=NO_LOSS,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def apart(self, outputs: Tensor, base: Tensor) -> Tensor:
        """The divergence of Kullback and Leibler in nats: the mean over the tokens of a row, summed over rows."""
        real = (base != NO_LOSS).any(-1)
        own, other = outputs.log_softmax(-1), base.log_softmax(-1)
        divergence = nn.functional.kl_div(own, other, log_target=True, reduction="none").sum(-1)
        return ((divergence * real).sum(1) / real.sum(1).clamp_min(1)).sum()

    def score(self, outputs: Targets, part: Part) -> dict[str, float]:
        assert isinstance(part.targets, Ragged)
        words = part.beside.words
        truth = rows_first(part.targets.values[words.places], words.starts)
        return self.measure(truth, self.decode(outputs, part))

    # From outputs to what is said of them

    def decode(self, outputs: Targets, part: Part) -> np.ndarray:
        """An array of probabilities for each sentence, words x tags."""
        words = part.beside.words
        values = outputs.values if isinstance(outputs, Ragged) else outputs
        logits = values[words.places].astype(np.float64)
        shifted = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
        return rows_first(shifted / shifted.sum(1, keepdims=True), words.starts)

    def chosen_tags(self, predicted: np.ndarray) -> list[np.ndarray]:
        """The numbers of the predicted tags of each sentence."""
        if not self.valid_tags or not len(predicted):
            return [own.argmax(1) for own in predicted]
        starts = starts_of(list(predicted))
        found = likeliest(np.log(np.maximum(np.concatenate(predicted), tag_scores.LEAST)), starts, self.labels)
        return list(rows_first(found, starts))

    def counted(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, Counted]:
        return tag_scores.counted(list(truth), self.chosen_tags(predicted), list(predicted), self.labels)

    def measure(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        return tag_scores.values(self.counted(truth, predicted))

    def said(self, predicted: np.ndarray) -> list[dict[str, Any]]:
        """The tags of each sentence, and the probability of the word whose tag is least sure."""
        chosen = self.chosen_tags(predicted)
        return [
            {"prediction": tags, "probability": float(own[np.arange(len(best)), best].min(initial=1.0))}
            for tags, own, best in zip(tag_scores.named(chosen, self.labels), predicted, chosen, strict=True)
        ]

    def shown(self, rows: Rows, predicted: np.ndarray) -> list[dict[str, Any]]:
        made = []
        for number, said in enumerate(self.said(predicted)):
            tags, text, words = said["prediction"], rows.texts[number], rows.words[number]
            tokens = [text[start:end] for start, end in words]
            own = {"prediction": self.worded(text, words, tags), "probability": said["probability"]}
            made.append({**own, "tokens": tokens, "tags": tags})
        return made

    def worded(self, text: str, words: Sequence[tuple[int, int]], tags: Sequence[str]) -> list[Any]:
        """The entities of a text: type, text, and where it begins and ends, in characters."""
        found = []
        for one in schemes.entities(tags):
            start, end = tag_scores.extent(words, one)
            found.append({"type": one.type, "text": text[start:end], "start": start, "end": end})
        return found

    def said_in_truth(self, rows: Rows) -> list[Any]:
        return [self.worded(*row) for row in zip(rows.texts, rows.words, rows.labels, strict=True)]

    def probabilities(self, predicted: np.ndarray) -> np.ndarray:
        """For each row an array, words x tags."""
        return predicted

    # What a person hands to predict

    @classmethod
    def items(cls, given: Iterable[Any]) -> Rows:
        """Texts, or lists of words."""
        if isinstance(given, str):
            raise DataError("give a list of texts, or of lists of words: predict([text])")
        items = list(given)
        for number, one in enumerate(items, start=1):
            words = one if isinstance(one, list | tuple) else [one]
            if not all(isinstance(word, str) for word in words):
                raise DataError(f"item {number} of {len(items)} is neither a text nor a list of words")
        return sentences(items, "items", range(1, len(items) + 1))

    @classmethod
    def lines(cls, given: Sequence[str]) -> Rows:
        return sentences(given, "standard input", range(1, len(given) + 1))

    @classmethod
    def to_predict(cls, table: Table, wishes: Wishes) -> Rows:
        """The column of words or texts that was asked for or trained on, else one with such a name."""
        known = [name for name in table.columns if name.lower() in (*TOKEN_NAMES, *TEXT_NAMES)]
        column = wishes.text if wishes.text in table.columns or not known else known[0]
        values = table.column(column or "text", "text")
        words = column is not None and column.lower() in TOKEN_NAMES
        return sentences([cells(one) if words or one is None else one for one in values], table.name, table.lines)

    # What is made of the test rows

    def intervals(self, truth: np.ndarray, predicted: np.ndarray, seed: int) -> dict[str, Interval]:
        counted = self.counted(truth, predicted)
        limits = by_sentence.intervals(counted, seed=seed)
        found = {}
        for name, (low, high) in limits.items():
            found[name] = Interval(float(low), float(high), by_sentence.METHOD, few(name, counted[name].counts))
        return found

    def compare(self, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, seed: int) -> Comparison:
        one, other = (self.counted(truth, predicted)[self.metric] for predicted in (ours, theirs))
        return by_sentence.compared(self.metric, one, other, seed=seed)

    def baselines(self, material: Material) -> Found:
        """The most frequent tag of each word; the frozen states of the words under a logistic regression."""
        return word_baselines(material, len(self.labels))

    def details(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        counts = self.by_kind(list(truth), self.chosen_tags(predicted))
        return {"per_label": entities.by_type(counts.sum(0), self.kinds)}

    @property
    def kinds(self) -> tuple[str, ...]:
        """What figures are given of: the types of entities."""
        return entities.types_of(self.labels)

    def by_kind(self, truth: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> np.ndarray:
        return tag_scores.of_entities(truth, chosen, self.labels)

    def panels(self, tested: Tested) -> dict[str, Any]:
        truth, chosen, rows = list(tested.truth), self.chosen_tags(tested.predicted), tested.rows
        true, own = (tag_scores.named(one, self.labels) for one in (truth, chosen))
        wrong = tag_scores.mistaken_entities(true, own, rows.texts, rows.words, rows.lines)
        return {"entities": {"types": self.figures(truth, chosen), **wrong}}

    def figures(self, truth: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Of each type: precision, recall, F1 with its interval, support and predictions."""
        counts = self.by_kind(truth, chosen)
        limits = by_sentence.intervals({"f1": Counted(counts, entities.f1)})["f1"]
        return tag_scores.with_limits(entities.by_type(counts.sum(0), self.kinds), limits)


@dataclass(frozen=True)
class PlainTags(Tagging):
    """Tags that mark no entities, as parts of speech do."""

    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("token accuracy", title="Token accuracy"),
        "macro_f1": Metric("macro-F1", title="Macro-F1"),
        "log_loss": Metric("log-loss", lower_is_better=True, percent=False, title="Log-loss"),
    }
    usage: ClassVar[Usage] = TAGS
    metric: str = "accuracy"

    nothing: ClassVar[Mapping[str, Any]] = {"prediction": [], "probability": 0.0, "tokens": []}

    def shown(self, rows: Rows, predicted: np.ndarray) -> list[dict[str, Any]]:
        """The tags of each row, and its words."""
        return [{**said, "tokens": rows.words_of(number)} for number, said in enumerate(self.said(predicted))]

    def said_in_truth(self, rows: Rows) -> list[Any]:
        return [list(tags) for tags in rows.labels]

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.labels

    def by_kind(self, truth: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> np.ndarray:
        return tag_scores.of_tags(truth, chosen, len(self.labels))

    def panels(self, tested: Tested) -> dict[str, Any]:
        truth, chosen = list(tested.truth), self.chosen_tags(tested.predicted)
        tokens = [tested.rows.words_of(number) for number in range(len(truth))]
        pairs = tag_scores.confused_tags(truth, chosen, self.labels, tokens)
        return {"tags": {"figures": self.figures(truth, chosen), "confused": pairs}}


def few(name: str, counts: np.ndarray) -> str | None:
    """Why an interval may be too narrow, if it may."""
    found = int(counts[..., entities.TRUE].sum()) if name == "entity_f1" else FEW
    wrong = int(counts[..., 1].sum() - counts[..., 0].sum()) if name == "accuracy" else FEW
    if found < FEW:
        return f"may be too narrow: only {found} {'entity' if found == 1 else 'entities'} to be found"
    return f"may be too narrow: only {wrong} wrong {'word' if wrong == 1 else 'words'}" if wrong < FEW else None


def _numbered(tags: Sequence[str], labels: tuple[str, ...]) -> np.ndarray:
    numbers = {label: number for number, label in enumerate(labels)}
    return np.array([numbers[tag] for tag in tags], dtype=np.int64)
