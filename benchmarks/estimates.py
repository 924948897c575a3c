"""How good the price before a run is: `whet explain` beside what the run took, over eight strategies on three sets.

The sets are 300, 600 and 1,200 sentences of NICTA-PIBOSO; replayed are 500 texts of emotion, which have labels of their
own. Nothing of them was used to make the estimator. Each case asks `whet explain` once, with an empty cache folder, so
that it calibrates anew; then it runs three times, each with an empty cache folder of its own, without baselines and
without measuring what was forgotten, which are no part of the price. Every call is a process of its own.

Seconds are those of training and of scoring the test rows, memory is `peak_memory_mb` of metrics.json. The actual
value is the median of three runs. A case whose runs differ in time by more than 1.3 times is measured again, and both
are kept; the later counts. An error is the distance of estimate and actual, as a share of the actual. Goals: median at
most 15 % in time and 10 % in memory, worst at most 50 % and 30 %.

A case is kept in results/estimates.json as soon as it is measured, so that what was stopped goes on where it was.
Meant for an idle machine: what else runs is in the timings.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from cells import SHARED, Cells, run_json

STRATEGIES = (
    "full",
    "probe(length='10 epochs')",
    "top(2)",
    "lift",
    "gradual_unfreezing",
    "lora",
    "with_replay(full, source={earlier}, share=0.25)",
    "pull_to_base(features=1.0)",
)
SETS = {"300 sentences": 300, "600 sentences": 600, "1,200 sentences": 1200}
REPLAYED = 500
RUNS, APART = 3, 1.3
GOALS = {"time": (0.15, 0.50), "memory": (0.10, 0.30)}


def write_sample(source: Path, path: Path, size: int) -> Path:
    """So many rows of a set, drawn with seed 0."""
    with source.open(newline="", encoding="utf-8") as handle:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(handle)]
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("text", "label"), *random.Random(0).sample(rows, size)])
    return path


def command(verb: str, data: Path, strategy: str, cache: str) -> list[str]:
    start = [sys.executable, "-m", "whet", verb, str(data), f"--strategy={strategy}", "--epochs=1"]
    return [*start, "--no-baselines", "--no-forgetting", f"--cache={cache}", "--json"]


def explained(data: Path, strategy: str) -> dict:
    with tempfile.TemporaryDirectory() as cache:
        return run_json(command("explain", data, strategy, cache))["price"]


def ran(data: Path, strategy: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        found = run_json([*command("fine-tune", data, strategy, f"{folder}/cache"), "--quiet", f"--out={folder}/run"])
    kept = {name: found[name] for name in ("phases", "peak_memory_mb")}
    return {**kept, "seconds": found["seconds"]["train"] + found["seconds"]["test"], "load": os.getloadavg()}


def measure(data: Path, strategy: str) -> dict:
    """The estimate and rounds of three runs: a second round where those of the first differ too much."""
    estimate, rounds = explained(data, strategy), []
    while not rounds or (len(rounds) < 2 and apart(rounds[0]) > APART):
        rounds.append([ran(data, strategy) for _ in range(RUNS)])
    return {"estimate": estimate, "rounds": rounds}


def apart(runs: list[dict]) -> float:
    times = [run["seconds"] for run in runs]
    return max(times) / min(times)


def compared(cell: dict) -> dict[str, tuple[float, float]]:
    """(estimate, actual) of time and memory."""
    runs = cell["rounds"][-1]
    seconds, memory = (statistics.median(run[name] for run in runs) for name in ("seconds", "peak_memory_mb"))
    return {"time": (cell["estimate"]["seconds"], seconds), "memory": (cell["estimate"]["peak_mb"], memory)}


def error(pair: tuple[float, float]) -> float:
    return abs(pair[0] - pair[1]) / pair[1]


def table(kept: dict[str, dict]) -> None:
    print("| set | strategy | s estimated | s actual | error | MB estimated | MB actual | error |")
    print("| --- " * 8 + "|")
    for name in SETS:
        for strategy in STRATEGIES:
            cell = kept.get(f"{name}/{strategy}")
            if cell is None:
                print(f"| {name} | {strategy} | missing | | | | | |")
                continue
            time, memory = compared(cell).values()
            figures = [f"{time[0]:.1f}", f"{time[1]:.1f}", f"{100 * error(time):.0f} %"]
            figures += [f"{memory[0]:,.0f}", f"{memory[1]:,.0f}", f"{100 * error(memory):.0f} %"]
            print(f"| {name} | {strategy} | {' | '.join(figures)} |")
    print()
    for what, (median, worst) in GOALS.items():
        errors = [error(compared(cell)[what]) for cell in kept.values()]
        if errors:
            found = statistics.median(errors), max(errors)
            met = "met" if found[0] <= median and found[1] <= worst else "NOT met"
            print(
                f"{what}, {len(errors)} cases: median {100 * found[0]:.1f} % (goal {100 * median:.0f}), "
                f"worst {100 * found[1]:.1f} % (goal {100 * worst:.0f}): {met}"
            )
    again = [key for key, cell in kept.items() if len(cell["rounds"]) > 1]
    print(f"measured twice, since the first runs differed by more than {APART} times: {', '.join(again) or 'none'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print what is there; measure nothing")
    parser.add_argument(
        "--only", default="", help="measure only cases whose name holds this text, as '300 sentences/lora'"
    )
    arguments = parser.parse_args()
    cells = Cells("estimates")
    if not arguments.table:
        with tempfile.TemporaryDirectory() as work:
            earlier = write_sample(SHARED / "data" / "emotion" / "train.csv", Path(work) / "earlier.csv", REPLAYED)
            for name, size in SETS.items():
                data = write_sample(SHARED / "data" / "nicta_piboso" / "train.csv", Path(work) / f"{size}.csv", size)
                for strategy in STRATEGIES:
                    asked = strategy.format(earlier=repr(str(earlier)))
                    if arguments.only in f"{name}/{strategy}":
                        cells.measure(f"{name}/{strategy}", lambda: measure(data, asked))
    table(cells.kept)
