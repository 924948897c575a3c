"""Where the time of full fine-tuning goes: what a step costs whatever its rows, what each token adds, and how much of
that products alone take.

SST-2, the default model, batch 16, one epoch. The seconds between lines of progress.jsonl are set against the padded
tokens of the steps by least squares, without the first 40 steps, which find kernels and memory. Beside it are the
matrix products of as many tokens, forward and backward in bf16, run back to back: no engine is quicker on the machine.
A profiler would tell more, but it changes what it measures: under torch's, filling gradients with zeros took 24 ms of
a step that takes 41 ms without it.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import whet
from cells import SHARED, Cells
from whet.config import resolve
from whet.data.store import width_of
from whet.engine.batches import batch_rows
from whet.runs.assemble import assemble
from whet.runs.rows import read_rows

FIRST = 40
BATCH = 16
SST2 = SHARED / "data" / "sst2"
PRODUCTS = ((384, 384, 4), (384, 1536, 1), (1536, 384, 1))
"""Of each of the six layers: inputs, outputs, how many."""


def tokens_of_steps() -> np.ndarray:
    """The padded tokens of each step of the first epoch with seed 0."""
    asked = resolve("fine_tune", {"valid": str(SST2 / "dev.csv"), "test": "0"}, given_as="flag")
    dataset = read_rows(asked.settings, str(SST2 / "train.csv"))
    lengths = assemble(asked, dataset).tokens(dataset.train).lengths
    return np.array([len(r) * width_of(int(lengths[r].max())) for r in batch_rows(0, 0, lengths, BATCH, "grouped")])


def steps() -> dict[str, Any]:
    """Seconds of a step as a line over its tokens; the training call, and what of it validates and saves."""
    with tempfile.TemporaryDirectory() as folder:
        out, fixed = Path(folder) / "run", {"epochs": 1, "batch_size": BATCH, "learning_rate": 1e-4, "test": "0"}
        valid = str(SST2 / "dev.csv")
        run = whet.fine_tune(
            str(SST2 / "train.csv"), valid=valid, out=out, cache="off", quiet=True, baselines=False, **fixed
        )
        lines = [json.loads(line) for line in (out / "progress.jsonl").read_text(encoding="utf-8").splitlines()]
    took = np.diff([line["seconds"] for line in lines if line["split"] == "train"])[FIRST:]
    tokens = tokens_of_steps()[1:][FIRST:]  # the time between two lines is that of the later step
    each, fixed_part = np.polyfit(tokens, took, 1)
    (phase,) = run.metrics["phases"]
    return {
        "step": float(took.mean()),
        "fixed": float(fixed_part),
        "per_token": float(each),
        "tokens": float(tokens.mean()),
        "train": run.metrics["seconds"]["train"],
        "validating": phase["validating"],
        "saving": phase["saving"],
    }


def products(tokens: int = 448, times: int = 40) -> dict[str, float]:
    """Seconds per token of all products of a step, forward and backward, and the rate they reach."""
    seconds = floating = 0.0
    for inputs, outputs, count in PRODUCTS:
        sizes = ((tokens, inputs), (outputs, inputs), (tokens, outputs))
        states, weight, back = (torch.randn(*size, dtype=torch.bfloat16) for size in sizes)
        for _ in range(times):
            begun = time.perf_counter()
            torch.mm(states, weight.T)
            torch.mm(back, weight)
            torch.mm(back.T, states)
            seconds += 6 * count * (time.perf_counter() - begun) / times
        floating += 6 * count * 6 * tokens * inputs * outputs
    return {"per_token": seconds / tokens, "gflops_per_second": floating / seconds / 1e9}


def main() -> None:
    cells = Cells("shares")
    for repetition in range(3):
        cells.measure(f"step/{repetition}", steps)
        cells.measure(f"products/{repetition}", products)
    step = sorted((cells.kept[f"step/{n}"] for n in range(3)), key=lambda cell: cell["step"])[1]
    alone = sorted((cells.kept[f"products/{n}"] for n in range(3)), key=lambda cell: cell["per_token"])[1]
    per_token = step["tokens"] * step["per_token"]
    print("\n| | ms of a mean step | share |\n| --- | --- | --- |")
    for what, seconds in (
        ("whatever the rows: optimizer, clipping, casts of weights, calls of operations", step["fixed"]),
        ("matrix products of the tokens, at their own pace", step["tokens"] * alone["per_token"]),
        ("all else that grows with tokens", per_token - step["tokens"] * alone["per_token"]),
    ):
        print(f"| {what} | {1000 * seconds:.0f} | {seconds / step['step']:.0%} |")
    print(f"| in all, {step['tokens']:.0f} padded tokens | {1000 * step['step']:.0f} | |")
    print(f"\nproducts alone: {alone['gflops_per_second']:.0f} GFLOP/s; training call {step['train']:.1f} s, of which")
    print(f"{step['validating']:.1f} s validated and {step['saving']:.1f} s saved")


if __name__ == "__main__":
    main()
