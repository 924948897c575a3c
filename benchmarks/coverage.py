"""How often the 95 % intervals hold the true score, and how often equal models are called different: by simulation.

Test rows are drawn from confusion matrices that are known exactly, so that true scores are known too. Errors fall on
the other classes in proportion to their rows. In `worse` sets, rare classes are found less often than the accuracy
says. docs/decisions/0012-intervals.md reads the results.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from scipy.special import psi
from scipy.stats import beta, binom

from cells import Cells
from equal_models import DIFFERENCES, alike, paired, paired_losses, power, unlike
from simulated import DRAWS_OF_DRAWS, SETS, Ends, figures, held, population
from tried_intervals import bootstrap_of_macro_f1, bootstraps_of_mean, formulas_of_macro_f1
from whet.evaluate.calibration import calibration_error_limits
from whet.evaluate.counts import Margins, f1_per_label, macro_f1, margins, mcc
from whet.evaluate.intervals import (
    FEW_OUTSIDE,
    FEW_WRONG,
    f1_limits,
    has_few_rows,
    macro_f1_limits,
    mcc_limits,
    mean_limits,
    wilson,
)

ROWS, ACCURACIES = (100, 300, 1000, 3000), (0.7, 0.85, 0.95)
# Probability of the true label: Beta distributions of rows predicted rightly and wrongly. The means of -log are exact.
LOSSES = {"mild": ((8, 1), (1, 3)), "sure": ((30, 0.7), (0.5, 4)), "too sure": ((50, 0.3), (0.25, 4))}
DRAWS = 2000
"""Simulated tests of a cell, where an interval is a formula."""


def tests_of(shares: np.ndarray, rows: int, draws: int, seed: list[int]) -> Iterator[np.ndarray]:
    """Counts of simulated tests, in portions of 250."""
    rng = np.random.default_rng(seed)
    for _ in range(draws // 250):
        yield rng.multinomial(rows, shares.ravel(), size=250).reshape(250, *shares.shape)


def with_warnings(limits: Ends, true: float, warned: np.ndarray) -> dict:
    """Coverage in all, the share of tests with a warning, and coverage without one, if 100 tests had none."""
    quiet = held(limits, true)[~warned]
    without = float(quiet.mean()) if len(quiet) >= 100 else None
    return {**figures(limits, true), "warned": float(warned.mean()), "coverage_unwarned": without}


def scores(name: str, accuracy: float, rows: int) -> dict:
    shares = population(name, accuracy)
    true = margins(shares)
    limits: dict[str, list[np.ndarray]] = {"accuracy": [], "macro_f1": [], "mcc": []}
    by_rows: dict[str, np.ndarray] = {}
    found = []
    for counts in tests_of(shares, rows, DRAWS, [len(shares), rows, int(100 * accuracy)]):
        own = margins(counts)
        limits["accuracy"].append(np.array(wilson(own.right.sum(-1), rows)))
        limits["macro_f1"].append(np.array(macro_f1_limits(counts)))
        limits["mcc"].append(np.array(mcc_limits(counts)))
        found.append(own.truth)
        for part, tally in per_label(own, true).items():
            by_rows[part] = by_rows.get(part, 0) + tally
    joined = {metric: np.concatenate(parts, axis=1) for metric, parts in limits.items()}
    truth = np.concatenate(found)
    return {
        "accuracy": figures(joined["accuracy"], float(true.right.sum())),
        "macro_f1": with_warnings(joined["macro_f1"], float(macro_f1(true)), has_few_rows(truth)),
        "mcc": with_warnings(joined["mcc"], float(mcc(true)), rows - truth.max(-1) < FEW_OUTSIDE),
        "per_label": {part: tally.astype(int).tolist() for part, tally in by_rows.items()},
    }


def share(rows: int) -> dict:
    """Two intervals of accuracy, without simulation: all that can happen, weighted by its chance."""
    right = np.arange(rows + 1)
    exact = tuple(
        np.nan_to_num(beta.ppf(*level), nan=end)
        for level, end in (((0.025, right, rows - right + 1), 0.0), ((0.975, right + 1, rows - right), 1.0))
    )
    found: dict = {}
    for method, limits in (("Wilson", wilson(right, rows)), ("Clopper and Pearson", exact)):
        for accuracy in ACCURACIES:
            chance = binom.pmf(right, rows, accuracy)
            found[f"{method}, {accuracy}"] = {
                "coverage": round(float(chance @ held(limits, accuracy)), 4),
                "width": round(float(chance @ (limits[1] - limits[0])), 4),
            }
    return found


BANDS = (1, 5, 10, 20, 50)


def per_label(own: Margins, true: Margins) -> dict[str, np.ndarray]:
    """Intervals that hold the true value, and all intervals (2 x bands), by the rows that the interval rests on."""
    either = own.truth + own.predicted - own.right
    parts = {
        "precision": (own.predicted, wilson(own.right, own.predicted), true.right / true.predicted),
        "recall": (own.truth, wilson(own.right, own.truth), true.right / true.truth),
        "f1": (either, f1_limits(own.right, either), f1_per_label(true)),
    }
    tallies = {}
    for part, (of, limits, value) in parts.items():
        band = np.digitize(of, BANDS)
        good = held(limits, value)
        numbers = range(1, len(BANDS) + 1)
        tallies[part] = np.array([[(good & (band == n)).sum() for n in numbers], [(band == n).sum() for n in numbers]])
    return tallies


def tried(name: str, accuracy: float, rows: int) -> dict:
    """Methods for macro-F1, on the same tests."""
    shares = population(name, accuracy)
    true, seed = float(macro_f1(margins(shares))), [len(shares), rows, int(100 * accuracy), 1]
    counts = np.concatenate(list(tests_of(shares, rows, DRAWS_OF_DRAWS, seed)))
    methods = {**formulas_of_macro_f1(counts), **bootstrap_of_macro_f1(counts, seed)}
    return {method: figures(limits, true) for method, limits in methods.items()}


def log_loss(kind: str, accuracy: float, rows: int, also_tried: bool) -> dict:
    rng = np.random.default_rng([rows, int(100 * accuracy), len(kind)])
    right, wrong = LOSSES[kind]
    true = accuracy * (psi(sum(right)) - psi(right[0])) + (1 - accuracy) * (psi(sum(wrong)) - psi(wrong[0]))
    size = (DRAWS_OF_DRAWS if also_tried else DRAWS, rows)
    mistaken = rng.random(size) > accuracy
    given = np.where(mistaken, rng.beta(*wrong, size=size), rng.beta(*right, size=size))
    losses = -np.log(np.maximum(given, 1e-300))
    warned = mistaken.sum(1) < FEW_WRONG
    result = {"log_loss": with_warnings(mean_limits(losses), float(true), warned)}
    if also_tried:
        result |= {method: figures(ends, float(true)) for method, ends in bootstraps_of_mean(losses, rng).items()}
    return result


# What share is right at a confidence.
RIGHT = {
    "right": lambda confidence: confidence,
    "0.08 too high": lambda confidence: confidence - 0.08,
    "too high below 0.9": lambda confidence: confidence - 0.3 * np.maximum(confidence - 0.6, 0) * (confidence < 0.9),
}


def confidences(rng: np.random.Generator, rows: int) -> np.ndarray:
    return 1 / 3 + 2 / 3 * rng.beta(4, 1, size=rows)


def ece(kind: str, rows: int) -> dict:
    """The true error is that of the same bins with 4 million rows and their exact chances of being right."""
    many = confidences(np.random.default_rng(1), 4_000_000)
    gaps = np.bincount(np.ceil(15 * many).astype(int), RIGHT[kind](many) - many)
    true = float(np.abs(gaps).sum()) / len(many)
    rng = np.random.default_rng([rows, len(kind)])
    limits = []
    for number in range(DRAWS_OF_DRAWS):
        confidence = confidences(rng, rows)
        right = rng.random(rows) < RIGHT[kind](confidence)
        # Three labels: the prediction is label 0, the rest is shared.
        probabilities = np.stack([confidence, (1 - confidence) / 2, (1 - confidence) / 2], axis=1)
        limits.append(calibration_error_limits(probabilities, np.where(right, 0, 1), seed=number))
    return {"true": round(true, 4), "ece": figures(tuple(np.array(limits).T), true)}


def measure(cells: Cells) -> None:
    for rows in ROWS:
        cells.measure(f"share/{rows}", lambda: share(rows))
    for name in SETS:
        for accuracy in ACCURACIES:
            for rows in ROWS:
                cells.measure(f"scores/{name}/{accuracy}/{rows}", lambda: scores(name, accuracy, rows))
    for name, accuracies in (("6 equal", ACCURACIES), ("6 unequal", ACCURACIES), ("20 equal", (0.85,))):
        for accuracy in accuracies:
            for rows in (100, 300, 1000) if len(accuracies) > 1 else (100, 300):
                cells.measure(f"tried/{name}/{accuracy}/{rows}", lambda: tried(name, accuracy, rows))
    for kind in LOSSES:
        for accuracy in (*ACCURACIES, 0.98):
            for rows in ROWS:
                also = accuracy in (0.85, 0.95) and rows < 1000
                cells.measure(f"log_loss/{kind}/{accuracy}/{rows}", lambda: log_loss(kind, accuracy, rows, also))
    for kind in RIGHT:
        for rows in ROWS:
            cells.measure(f"ece/{kind}/{rows}", lambda: ece(kind, rows))
    for name in ("2 equal", "6 equal", "6 unequal"):
        for better, agreement in ((0.0, 0.5), (0.0, 0.9), (0.04, 0.7)):
            for rows in (100, 300, 1000):
                also = better == 0 and rows < 1000
                key = f"paired/{name}/{better}/{agreement}/{rows}"
                cells.measure(key, lambda: paired(alike(name, better, agreement), rows, also))
    for name in ("6 equal", "6 unequal"):
        for rows in (100, 300, 1000):
            cells.measure(f"paired/{name}/unlike/{rows}", lambda: paired(unlike(name), rows, False))
    for only_ours, only_theirs in DIFFERENCES:
        cells.measure(f"power/{only_ours}/{only_theirs}", lambda: power(only_ours, only_theirs))
    for agreement in (0.5, 0.9):
        for rows in (100, 300, 1000):
            cells.measure(f"paired/losses/{agreement}/{rows}", lambda: paired_losses(agreement, rows))


def table(kept: dict[str, dict]) -> None:
    """Every cell on a line, in percent: coverage (mean width); for pairs, the share called different (coverage)."""
    for key, cell in kept.items():
        shown = []
        for name, own in cell.items():
            if not isinstance(own, dict) or name in ("per_label", "tried"):
                continue
            text = f"{name} {100 * own['coverage']:.1f} ({100 * own['width']:.1f})"
            if "called_different" in own:
                text = f"{name} {100 * own['called_different']:.1f} ({100 * own['coverage']:.1f})"
            if own.get("warned"):
                text += f" warned {100 * own['warned']:.0f}"
            shown.append(text)
        if key.startswith("power/"):
            shown = [f"{cell['rows']} rows tell it in {100 * cell['power']:.1f}"]
        shown += [f"{method} {100 * share:.1f}" for method, share in cell.get("tried", {}).items()]
        print(f"{key:34}", "; ".join(shown))
    for part in ("precision", "recall", "f1"):
        all_cells = [np.array(cell["per_label"][part]) for cell in kept.values() if "per_label" in cell]
        good, of = sum(all_cells)
        worst = [min((c[0][n] / c[1][n] for c in all_cells if c[1][n] >= 500), default=np.nan) for n in range(len(of))]
        told = (
            f"from {first}: {100 * g / o:.1f}, worst {100 * w:.1f}"
            for first, g, o, w in zip(BANDS, good, of, worst, strict=True)
        )
        print(f"{part} by rows of the class:", "; ".join(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print what is there; simulate nothing")
    cells = Cells("coverage")
    if not parser.parse_args().table:
        measure(cells)
    table(cells.kept)
