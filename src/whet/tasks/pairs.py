"""Two texts, and one label or one number for both. The model reads them together, as one row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from whet.data.check import Columns, Findings, Rows, Wishes, as_text
from whet.data.numbers import SCORE_NAMES, looks_like_numbers, number_column
from whet.data.read import Table
from whet.data.store import separator
from whet.errors import DataError, PathError
from whet.evaluate import baselines as logistic
from whet.evaluate import of_pairs, ridge
from whet.evaluate.baselines import Absent, Baseline, Parts, majority
from whet.evaluate.budget import Budget, Kind, Problem, Search
from whet.evaluate.facts import Metric
from whet.tasks.classification import Classification
from whet.tasks.material import Found, Material
from whet.tasks.regression import MAE, PEARSON, R2, RMSE, SCALED, SPEARMAN, Regression
from whet.tasks.task import Task, Usage

PAIR_NAMES = (("text_a", "text_b"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
              ("query", "passage"), ("query", "document"), ("sentence_a", "sentence_b"), ("text1", "text2"),
              ("sentence_1", "sentence_2"), ("text_1", "text_2"), ("left", "right"))  # fmt: skip
ASSIGN = 'texts, others = ["a first text", "and another"], ["one beside it", "and one beside that"]'
ROWS = (("a first text", "one beside it"), ("and another", "and one beside that"))
GIVEN = "two lists of equal length, `texts` and `others`"
TITLES = {
    "cosine": "cosine of frozen vectors",
    "tfidf": "TF-IDF of both texts",
    "frozen": "frozen vectors of both texts",
}


class Pairs(Task):
    """What all pairs of texts have in common, whatever is learnt of them."""

    @classmethod
    def sides(cls, table: Table, wishes: Wishes) -> tuple[str, str] | None:
        """The columns of the two texts: those asked for, else by their names; None where there are none."""
        by_lower = {name.lower(): name for name in reversed(list(table.columns))}
        named = [(by_lower[a], by_lower[b]) for a, b in PAIR_NAMES if a in by_lower and b in by_lower]
        if wishes.text is not None and wishes.text_b is not None:
            for name, option in ((wishes.text, "text"), (wishes.text_b, "text-b")):
                table.column(name, option)
            if wishes.text == wishes.text_b:
                raise PathError(f"--text and --text-b both name the column {wishes.text!r}")
            return wishes.text, wishes.text_b
        asked = {wishes.text, wishes.text_b} - {None}
        return next((pair for pair in named if asked <= set(pair) and wishes.label not in pair), None)

    @classmethod
    def single(cls, table: Table, without: str) -> Table:
        """The table without the column of the second texts."""
        columns = {name: values for name, values in table.columns.items() if name != without}
        return replace(table, columns=columns)

    @classmethod
    def columns(cls, table: Table, wishes: Wishes) -> tuple[Columns, list[str]]:
        found = cls.sides(table, wishes)
        if found is None:
            raise DataError(
                f"{table.name}: no two columns look like pairs of texts (columns: {', '.join(table.columns)}). "
                "Choose them with --text NAME --text-b NAME."
            )
        own, notes = super().columns(cls.single(table, found[1]), Wishes(found[0], wishes.label))
        guessed = [] if wishes.text and wishes.text_b else [f"text columns: {found[0]} and {found[1]}"]
        return replace(own, text_b=found[1]), [*notes, *guessed]

    @classmethod
    def check(
        cls,
        table: Table,
        columns: Columns,
        findings: Findings,
        *,
        clean_labels: bool = False,
        known: Iterable[str] = (),
    ) -> Rows:
        """Rows with two texts; those without the second are counted like those without the first."""
        others = [as_text(value) for value in table.columns[str(columns.text_b)]]
        kept = [place for place, other in enumerate(others) if other.strip()]
        if len(kept) < len(others):
            findings.dropped["empty second text"] += len(others) - len(kept)
        if not kept:
            raise DataError(f"{table.name}: no row can be used (every second text, {columns.text_b!r}, is empty)")
        some = {name: [values[place] for place in kept] for name, values in table.columns.items()}
        whole = replace(table, columns=some, lines=[table.lines[place] for place in kept])
        own = cls.single(whole, str(columns.text_b))
        rows = super().check(own, columns, findings, clean_labels=clean_labels, known=known)
        by_line = dict(zip(whole.lines, (others[place] for place in kept), strict=True))
        return replace(rows, seconds=tuple(by_line[line] for line in rows.lines))

    @classmethod
    def items(cls, given: Iterable[Any]) -> Rows:
        """Each item is two texts."""
        pairs = [] if isinstance(given, str) else list(given)
        wrong = next((n for n, pair in enumerate(pairs) if not _is_pair(pair)), None)
        if isinstance(given, str) or wrong is not None:
            which = "" if wrong is None else f"item {wrong + 1} of {len(pairs)} is none: "
            raise DataError(f"{which}give a list of pairs of texts: predict([(text, other)])")
        lines = tuple(range(1, len(pairs) + 1))
        return Rows("texts", tuple(pair[0] for pair in pairs), (), lines, tuple(pair[1] for pair in pairs))

    @classmethod
    def lines(cls, given: Sequence[str]) -> Rows:
        """Two texts a line, divided by a tab."""
        pairs = [line.split("\t") for line in given]
        wrong = next((n for n, pair in enumerate(pairs) if len(pair) != 2 and given[n].strip()), None)
        if wrong is not None:
            raise DataError(f"{given[wrong]!r} is no pair of texts: put a tab between the two, and none elsewhere")
        both = [(pair[0], pair[-1]) for pair in pairs]
        lines = tuple(range(1, len(given) + 1))
        return Rows("standard input", tuple(a for a, _ in both), (), lines, tuple(b for _, b in both))

    @classmethod
    def views(cls, rows: Rows) -> tuple[Rows, ...]:
        """Each text by itself: frozen vectors of both are what simple methods compare."""
        return Rows(rows.name, rows.texts, (), rows.lines), Rows(rows.name, rows.seconds, (), rows.lines)

    def used(self, tokenizer: Any) -> Usage:
        between = separator(tokenizer)
        others = "others" if not between else f"[{between!r} + other for other in others]"
        return replace(self.usage, inputs=f"texts, {others}")

    def from_both(self, problem: Problem, material: Material, simplest: Baseline, methods: Methods) -> Found:
        """The simplest baseline, the cosine, words, and both frozen vectors together."""
        features, rows = material.features, material.rows
        sides = (
            Parts[Sequence[str]](rows.train.texts, rows.valid.texts, rows.test.texts),
            Parts[Sequence[str]](rows.train.seconds, rows.valid.seconds, rows.test.seconds),
        )
        titles = {name: f"{title} + {methods.name}" for name, title in TITLES.items()}
        kinds = tuple(of_pairs.pair_words(sides, ngrams) for ngrams in (2, 1))
        on_words = methods.on_words("tfidf", titles["tfidf"], problem, kinds, features.budget.share(0.4))
        if features.states is None:
            return [simplest, on_words, *(Absent(name, titles[name], features.why) for name in ("cosine", "frozen"))]
        vectors, problem = (features.vectors(0), features.vectors(1)), features.problem(problem)
        made = {"cosine": of_pairs.cosine(*vectors), "frozen": of_pairs.together(*vectors)}
        found = [methods.on_vectors(name, titles[name], problem, made[name], features.budget) for name in made]
        return [simplest, on_words, *map(features.accounted, found)]


@dataclass(frozen=True)
class Methods:
    """How simple methods learn: the name of the regression, and what fits it on words and on vectors."""

    name: str
    on_words: Callable[[str, str, Problem, tuple[Kind, ...], Budget], Baseline | Absent]
    on_vectors: Callable[[str, str, Problem, Parts[np.ndarray], Budget], Baseline | Absent]


def _words_by_saga(
    name: str, title: str, problem: Problem, kinds: tuple[Kind, ...], budget: Budget
) -> Baseline | Absent:
    return logistic.chosen(name, title, Search(problem, kinds, logistic.TFIDF_STRENGTHS, logistic.saga, budget))


def _is_pair(item: Any) -> bool:
    return (
        isinstance(item, Sequence)
        and not isinstance(item, str | bytes)
        and len(item) == 2
        and all(isinstance(text, str) for text in item)
    )


@dataclass(frozen=True)
class PairClassification(Pairs, Classification):
    """A label for two texts."""

    name: ClassVar[str] = "pair-classification"
    options: ClassVar[frozenset[str]] = Classification.options | {"text_b"}
    usage: ClassVar[Usage] = Usage(
        title="A classifier of pairs of texts",
        given=GIVEN,
        items="list(zip(texts, others))",
        assign=ASSIGN,
        call="pairs = list(zip(texts, others))\nprint(run.predict(pairs))\nprint(run.probabilities(pairs).round(2))",
        rows=ROWS,
    )

    @classmethod
    def likeness(cls, table: Table, wishes: Wishes) -> float:
        return 0.8 if wishes.text_b is not None or cls.sides(table, wishes) is not None else 0.0

    def class_weights(self) -> tuple[float, ...] | None:
        """Probes read one text."""
        return None

    def baselines(self, material: Material) -> Found:
        problem = self.problem(material)
        methods = Methods("logistic regression", _words_by_saga, logistic.on_vectors)
        return self.from_both(problem, material, majority(problem, len(material.rows.test)), methods)


@dataclass(frozen=True)
class PairRegression(Pairs, Regression):
    """A number for two texts."""

    name: ClassVar[str] = "pair-regression"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "spearman": SPEARMAN,
        "pearson": PEARSON,
        "rmse": RMSE,
        "mae": MAE,
        "r2": R2,
        "scaled_mse": SCALED,
    }
    options: ClassVar[frozenset[str]] = Regression.options | {"text_b"}
    usage: ClassVar[Usage] = replace(
        Regression.usage,
        title="A model of a number for pairs of texts",
        given=GIVEN,
        items="list(zip(texts, others))",
        assign=ASSIGN,
        call="print(run.predict(list(zip(texts, others))))",
        rows=ROWS,
    )
    metric: str = "spearman"

    @classmethod
    def likeness(cls, table: Table, wishes: Wishes) -> float:
        """Numbers with fractions or many different ones, or whole ones in a column named like a score."""
        sides = cls.sides(table, wishes)
        if sides is None:
            return 0.0
        own = cls.single(table, sides[1])
        label = wishes.label or number_column(own, (sides[0],))
        values = own.columns.get(label or "", [])
        named = (label or "").lower() in SCORE_NAMES and looks_like_numbers(values) and len(set(map(str, values))) > 2
        return 0.9 if named or super().likeness(own, Wishes(sides[0], label)) else 0.0

    def baselines(self, material: Material) -> Found:
        problem = self.problem(material)
        methods = Methods("ridge regression", ridge.on_words, ridge.on_vectors)
        return self.from_both(problem, material, ridge.mean(problem, len(material.rows.test)), methods)
