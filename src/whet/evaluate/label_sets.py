"""Scores of predicted labels where a row may have any number of them, with intervals, and mistakes.

N rows, L labels. `truth` and `given` are N x L, 1 or true where a row has a label, or was given it. The values are
scikit-learn's, whose import would take longer than a small head takes to train.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from whet.errors import DataError
from whet.evaluate.counts import Margins, f1_per_label, macro_f1, ratio
from whet.evaluate.intervals import LEAST, Interval, f1_limits, mean_limits, wilson
from whet.evaluate.paired import DRAWS, portions

FEW = 5
"""With fewer rows than this, of a label or with a mistake, an interval may be too narrow."""
FEW_ROWS = 50
"""So may those of F1 with fewer rows than this in all: of simulated ones with 40 rows, 87 to 94 % held the true score,
with 110 rows 91 to 97 %, with 400 rows 94 to 96 %."""
SHARE_OF_LABELS = 0.1
"""Macro-F1: at least this share of the labels have few rows."""

Sums = Callable[[Margins], np.ndarray]


def scores(truth: np.ndarray, given: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """`micro_f1` (over all decisions), `macro_f1` (mean over the labels that occur in truth or prediction),
    `exact_match` (the share of rows whose labels are all right), each 1 at best, and `log_loss` (nats per decision, 0
    at best): the mean over rows and labels, as the loss in training."""
    rows = margins(truth, given)
    return {
        "micro_f1": float(micro_f1(rows)),
        "macro_f1": float(macro_f1(rows)) if (rows.truth + rows.predicted).any() else 0.0,
        "exact_match": float((truth.astype(bool) == given.astype(bool)).all(1).mean()),
        "log_loss": float(losses(truth, probabilities).mean()),
    }


def margins(truth: np.ndarray, given: np.ndarray) -> Margins:
    """Rows per label: given it rightly, having it, given it."""
    has, was = truth.astype(bool), given.astype(bool)
    return Margins((has & was).sum(0).astype(float), has.sum(0).astype(float), was.sum(0).astype(float))


def micro_f1(rows: Margins) -> np.ndarray:
    """F1 of all decisions together; 0 where no row has a label or was given one."""
    return ratio(2 * rows.right.sum(-1), (rows.truth + rows.predicted).sum(-1))


SUMS: dict[str, Sums] = {"micro_f1": micro_f1, "macro_f1": macro_f1}


def losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of each row in nats, the mean over its labels (N)."""
    right = np.where(truth > 0, probabilities, 1 - probabilities)
    made: np.ndarray = -np.log(np.maximum(right, LEAST)).mean(1)
    return made


def per_label(truth: np.ndarray, given: np.ndarray, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Of each label: precision, recall, F1, `support` (rows that have it), `predicted` (rows given it), mistakes
    (`missed` and `spurious`), and Wilson's `intervals` of the three scores, None where no row tells."""
    rows = margins(truth, given)
    either = rows.truth + rows.predicted - rows.right
    shares = {
        "precision": (rows.predicted, ratio(rows.right, rows.predicted), wilson(rows.right, rows.predicted)),
        "recall": (rows.truth, ratio(rows.right, rows.truth), wilson(rows.right, rows.truth)),
        "f1": (either, f1_per_label(rows), f1_limits(rows.right, either)),
    }
    return [
        {
            "label": label,
            **{name: float(value[number]) for name, (_, value, _) in shares.items()},
            "support": int(rows.truth[number]),
            "predicted": int(rows.predicted[number]),
            "missed": int((rows.truth - rows.right)[number]),
            "spurious": int((rows.predicted - rows.right)[number]),
            "intervals": {
                name: {"low": float(limits.low[number]), "high": float(limits.high[number])} if of[number] else None
                for name, (of, _, limits) in shares.items()
            },
        }
        for number, label in enumerate(labels)
    ]


def together(truth: np.ndarray, given: np.ndarray) -> dict[str, list[list[int]]]:
    """How many rows have each two labels, in `truth` and as `given` (L x L); with itself, a label's rows."""
    return {
        name: (one.astype(np.int64).T @ one.astype(np.int64)).tolist()
        for name, one in (("truth", truth), ("given", given))
    }


def score_intervals(
    truth: np.ndarray, given: np.ndarray, probabilities: np.ndarray, *, seed: int = 0
) -> dict[str, Interval]:
    """95 % intervals of `scores`. Of the two F1, percentiles of a bootstrap over rows: decisions on one row are not
    independent, so a formula that counts decisions would be too narrow. Raises `DataError` without rows."""
    if not len(truth):
        raise DataError("intervals are computed from test rows, and there are none")
    right = (truth.astype(bool) == given.astype(bool)).all(1)
    drawn = resampled(truth, given, seed=seed)
    bootstrap = f"percentiles of {DRAWS:,} samples of the rows"
    few = few_mistakes(int((~right).sum()))
    small = f"may be too narrow: only {len(right)} test rows" if len(right) < FEW_ROWS else None
    exact, loss = wilson(int(right.sum()), len(right)), mean_limits(losses(truth, probabilities))
    return {
        "micro_f1": Interval(*ends(drawn["micro_f1"]), bootstrap, few or small),
        "macro_f1": Interval(*ends(drawn["macro_f1"]), bootstrap, rare_labels(truth.sum(0)) or few or small),
        "exact_match": Interval(float(exact.low), float(exact.high), "Wilson"),
        "log_loss": Interval(max(float(loss.low), 0.0), float(loss.high), "Hall's transformation of t", few),
    }


def few_mistakes(rows: int) -> str | None:
    """Why intervals may be too narrow where so few rows have a mistake, if they may."""
    return (
        f"may be too narrow: only {rows} test {'row has' if rows == 1 else 'rows have'} a mistake"
        if rows < FEW
        else None
    )


def rare_labels(rows: np.ndarray) -> str | None:
    """Why the interval of macro-F1 may be too narrow with these rows per label, if it may."""
    rare = int((rows < FEW).sum())
    if rare < SHARE_OF_LABELS * len(rows):
        return None
    have = "has" if rare == 1 else "have"
    return f"may be too narrow: {rare} of {len(rows)} labels {have} fewer than {FEW} test rows"


def ends(drawn: np.ndarray) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def resampled(truth: np.ndarray, *given: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Micro-F1 and macro-F1 of as many rows drawn with replacement, 2,000 times; of two predictions for the same rows,
    the first less the second."""
    kinds, rows = alike(truth, *given)
    chance = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in SUMS}
    for some in portions(len(rows)):
        weights = chance.multinomial(rows.sum(), rows / rows.sum(), some).astype(float)
        each = [_sums(weights, kinds[0], other) for other in kinds[1:]]
        for name, score in SUMS.items():
            made = [score(one) for one in each]
            found[name].append(made[0] - made[1] if len(made) > 1 else made[0])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def alike(*decisions: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Rows that are equal in all of these (N x L each) as one: the different ones (K x L each), and how many rows each
    stands for."""
    width = decisions[0].shape[1]
    kinds, rows = np.unique(np.hstack([one.astype(bool) for one in decisions]), axis=0, return_counts=True)
    return [kinds[:, place * width : (place + 1) * width] for place in range(len(decisions))], rows


def _sums(weights: np.ndarray, truth: np.ndarray, given: np.ndarray) -> Margins:
    return Margins(weights @ (truth & given), weights @ truth, weights @ given)


@dataclass(frozen=True)
class Slip:
    """A label that a row has and was not given (`missed`), or was given and has not. Rows are named by their place."""

    index: int
    label: str
    missed: bool
    probability: float


def slips(
    truth: np.ndarray, given: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...], most: int
) -> list[Slip]:
    """The surest mistakes: up to `most` missed labels, the least likely first, then as many spurious ones, the
    likeliest first; equally sure ones in the order of rows and labels."""
    has, was = truth.astype(bool), given.astype(bool)
    found = []
    for missed, wrong, sign in ((True, has & ~was, 1), (False, was & ~has, -1)):
        rows, columns = np.nonzero(wrong)
        order = np.argsort(sign * probabilities[rows, columns], kind="stable")[:most]
        found += [
            Slip(int(rows[at]), labels[columns[at]], missed, float(probabilities[rows[at], columns[at]]))
            for at in order
        ]
    return found
