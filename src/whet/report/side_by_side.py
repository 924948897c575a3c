"""`comparison.html`: several runs on one page, and what the test rows that they share say of their difference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from whet.errors import RunError, UsageError
from whet.evaluate.intervals import wilson
from whet.evaluate.paired import Comparison, compare
from whet.report import facts, forgetting, plots, scores
from whet.report.html import page, save
from whet.report.run_files import RunFiles, read_run

FEW = 100
"""Shared rows below which the page says that they are few."""


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write one page on two or more finished runs to `out`, and return its path. The first run is the one that the
    others are held against.

    Raises `UsageError` for fewer than two runs, `PathError` where there is no run, and `RunError` where one is not
    finished, has no test rows, or where the runs differ in their labels or share no test row.
    """
    if len(folders) < 2:
        raise UsageError("a comparison needs two or more run folders")
    runs = [read_run(folder) for folder in folders]
    names = own_names(folders)
    check(runs, names)
    save(out, page("comparison.html", comparison_values(runs, names)))
    return out


def own_names(folders: Sequence[Path]) -> list[str]:
    """The name of each folder, with as many folders above it as tell it from the others."""
    paths = [folder.resolve().parts for folder in folders]
    longest = max(len(parts) for parts in paths)
    tails = [["/".join(parts[-depth:]) for parts in paths] for depth in range(1, longest + 1)]
    return next((names for names in tails if len(set(names)) == len(names)), tails[0])


def check(runs: Sequence[RunFiles], names: Sequence[str]) -> None:
    """Raises `RunError` where the runs have no test rows or not the same labels."""
    for run, name in zip(runs, names, strict=True):
        if run.task["name"] != runs[0].task["name"]:
            kinds = f"{runs[0].task['name']} and {run.task['name']}"
            raise RunError(f"the runs {names[0]} and {name} are of different tasks, {kinds}: nothing can be compared")
        if not run.task["right_or_wrong"]:
            raise RunError(
                f"runs are set side by side by the rows that each gets right; in {run.task['name']} rows are not "
                f"simply right or wrong. Look at the reports of {' and '.join(names)} instead"
            )
        if not run.predictions:
            raise RunError(f"the run {name} has no test rows, so nothing can be compared; run it with --test 0.15")
        odd = sorted(set(run.labels) ^ set(runs[0].labels))
        if odd:
            shown = ", ".join(repr(label) for label in odd[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
            raise RunError(f"the runs {names[0]} and {name} do not have the same labels: only one has {shown}")


@dataclass(frozen=True)
class Shared:
    """The test rows that all runs have: `truth` and, per run, `predictions`, in one order."""

    truth: list[str]
    predictions: list[list[str]]

    def right(self, run: int) -> list[bool]:
        return [truth == said for truth, said in zip(self.truth, self.predictions[run], strict=True)]


def shared_rows(runs: Sequence[RunFiles]) -> Shared:
    """Rows with the same text and truth in the test rows of every run. A text that stands in them several times counts
    as often as in the run that has it least. Raises `RunError` where there are none."""
    said: list[dict[tuple[str, str], list[str]]] = []
    for run in runs:
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in run.predictions:
            found[row["text"], row["truth"]].append(row["prediction"])
        said.append(found)
    keys = [key for key in said[0] if all(key in one for one in said)]
    if not keys:
        raise RunError("these runs share no test row; compare runs on the same rows, with the same --test and --seed")
    often = {key: min(len(one[key]) for one in said) for key in keys}
    return Shared(
        truth=[key[1] for key in keys for _ in range(often[key])],
        predictions=[[said for key in keys for said in one[key][: often[key]]] for one in said],
    )


@dataclass(frozen=True)
class Difference:
    """Run number `run` less the first one, in accuracy on the shared rows, with the p-value `adjusted` for all runs."""

    run: int
    found: Comparison
    adjusted: float

    @property
    def outcome(self) -> str:
        if self.adjusted >= scores.SIGNIFICANT:
            return "shows no difference from"
        return "is better than" if self.found.difference > 0 else "is worse than"


def differences(shared: Shared) -> list[Difference]:
    """Each run against the first by McNemar's exact test, with Holm's correction where there are several. The
    intervals (95 %) are each for one comparison."""
    first, others = shared.right(0), range(1, len(shared.predictions))
    found = [paired(shared.right(number), first) for number in others]
    adjusted = holm([one.p_value for one in found])
    return [Difference(*parts) for parts in zip(others, found, adjusted, strict=True)]


def paired(this: Sequence[bool], first: Sequence[bool]) -> Comparison:
    """Two runs on the same rows, of which each is right or not: as two classes, of which the first is the truth."""
    ours, theirs = (np.array([[right, not right] for right in run], dtype=float) for run in (this, first))
    return compare("accuracy", ours, theirs, np.zeros(len(ours), dtype=np.int64))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = highest
    return adjusted


def accuracies(shared: Shared) -> list[scores.Cell]:
    """Accuracy of each run on the shared rows, with Wilson's interval."""
    rows, found = len(shared.truth), []
    for run in range(len(shared.predictions)):
        right = sum(shared.right(run))
        low, high = wilson(right, rows)
        found.append(scores.Cell(right / rows, float(low), float(high)))
    return found


def comparison_values(runs: Sequence[RunFiles], names: Sequence[str]) -> dict[str, Any]:
    """Everything that the template shows, by the names it uses."""
    shared = shared_rows(runs)
    marks = [mark(number) for number in range(len(runs))]
    found, on_shared = differences(shared), accuracies(shared)
    return {
        "runs": [
            overview(run, sign, name, cell) for run, sign, name, cell in zip(runs, marks, names, on_shared, strict=True)
        ],
        "titles": runs[0].titles,
        "headline": headline(found, marks, names, len(shared.truth)),
        "differences": found,
        "shared": len(shared.truth),
        "few": FEW,
        "same_rows": all(len(run.predictions) == len(shared.truth) for run in runs),
        "picture": drawing(on_shared, marks),
        "differing": differing(runs),
    }


def mark(number: int) -> str:
    """A to Z, then AA, AB: short enough for a picture."""
    letter = chr(ord("A") + number % 26)
    return letter if number < 26 else mark(number // 26 - 1) + letter


def overview(run: RunFiles, sign: str, name: str, on_shared: scores.Cell) -> dict[str, Any]:
    return {
        "mark": sign,
        "name": name,
        "strategy": str(run.asked["settings"]["strategy"] or run.asked["verb"]),
        "model": facts.end_of(str(run.asked["settings"]["model"])),
        "rows": facts.data(run)["rows"],
        "seconds": run.metrics["seconds"]["total"],
        "memory": run.metrics["peak_memory_mb"],
        "moved": run.metrics["moved"],
        "forgot": next(iter(forgetting.changes(run.metrics.get("forgetting"))), None),
        "cells": scores.cells(run.metrics["test"], run.metrics["intervals"]["test"], list(run.titles)),
        "on_shared": on_shared,
    }


def headline(found: Sequence[Difference], marks: Sequence[str], names: Sequence[str], rows: int) -> str:
    """What the shared rows say of the runs against the first, in one sentence."""
    on = f"on the {rows:,} test {'row' if rows == 1 else 'rows'} that they share"
    first = f"{marks[0]} ({names[0]})"
    parts = []
    for outcome in ("is better than", "is worse than"):
        those = [f"{marks[one.run]} ({names[one.run]})" for one in found if one.outcome == outcome]
        if those:
            verb = outcome if len(those) == 1 else outcome.replace("is", "are")
            parts.append(f"{' and '.join(those)} {verb} {first}")
    if not parts:
        who = f"{marks[1]} ({names[1]}) shows" if len(found) == 1 else "No other run shows"
        return f"{who} {'no' if len(found) == 1 else 'a'} difference from {first} {on}"
    return f"{', '.join(parts)} {on}"


def drawing(cells: Sequence[scores.Cell], marks: Sequence[str]) -> Markup:
    """Accuracy on the shared rows, run by run."""
    points = [
        plots.Score(f"Run {sign}", cell.value, cell.low, cell.high, ours=number == 0)
        for number, (sign, cell) in enumerate(zip(marks, cells, strict=True))
    ]
    return plots.scores("shared", "Accuracy on the shared test rows", points)


def differing(runs: Sequence[RunFiles]) -> list[tuple[str, list[str]]]:
    """What is not the same in all runs: options, then what lies behind them. Where a run was written does not count."""
    # Runs of two versions of whet may have other options, and tell other things of the machine.
    options = {name: None for run in runs for name in run.asked["settings"] if name != "out"}
    rows = [(name, [facts.shown(name, run.asked["settings"].get(name)) for run in runs]) for name in options]
    rows += [
        ("weights of the pretrained model", [run.asked["model"]["sha256"][:12] for run in runs]),
        ("training rows", [run.asked["data"]["fingerprints"]["train"][:12] for run in runs]),
    ]
    machines = [dict(facts.machine(run)) for run in runs]
    names = {name: None for machine in machines for name in machine}
    rows += [(name, [machine.get(name, "unknown") for machine in machines]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
