"""What the cut saves: the same engine with it and without it, in turn, three times; training seconds and memory.

SST-2, 2,000 of its training rows drawn with seed 0, the default model. `warm` finds its states in the cache.
"""

from __future__ import annotations

import csv
import random
import statistics
import sys
import tempfile
from pathlib import Path

from cells import SHARED, Cells, run_json

TIMES = 3
WORK = {
    "lift, an epoch a phase": ("lift", []),
    "top(2), 3 epochs": ("top(2)", []),
    "probe, 10 epochs": ("probe", ["--epochs=10", "--patience=100"]),
    "gradual_unfreezing, an epoch a phase": ("gradual_unfreezing", []),
}
KINDS = {"cut": ["--cache=off"], "uncut": ["--no-cut"], "warm": []}


def rows(work: Path) -> Path:
    path = work / "sst2-2000.csv"
    with (SHARED / "data" / "sst2" / "train.csv").open(newline="", encoding="utf-8") as handle:
        every = list(csv.reader(handle))[1:]
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("text", "label"), *random.Random(0).sample(every, 2000)])
    return path


def measure(train: Path, strategy: str, options: list[str], cache: Path) -> dict:
    data = SHARED / "data" / "sst2"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "whet", "fine-tune", str(train), f"--strategy={strategy}", "--json", "--quiet"]
        command += [f"--valid={data / 'dev.csv'}", "--test=0", f"--out={folder}/run", *options]
        result = run_json(command, WHET_CACHE=str(cache))
    return {name: result[name] for name in ("seconds", "peak_memory_mb", "captures", "valid", "rows")}


def table(kept: dict[str, dict]) -> None:
    """Median seconds of training with the smallest and largest, and the ratios of medians."""
    for label in WORK:
        keys = {kind: [f"{label}/{kind}/{number}" for number in range(TIMES)] for kind in KINDS}
        seconds = {kind: [kept[key]["seconds"]["train"] for key in some if key in kept] for kind, some in keys.items()}
        if not all(seconds.values()):
            print(f"{label:38} missing")
            continue
        middle = {kind: statistics.median(values) for kind, values in seconds.items()}
        shown = "  ".join(f"{kind} {middle[kind]:6.1f} ({min(v):.1f}-{max(v):.1f})" for kind, v in seconds.items())
        ratios = [f"uncut/{kind} {middle['uncut'] / middle[kind]:.2f}" for kind in ("cut", "warm")]
        print(f"{label:38} {shown}  {'  '.join(ratios)}")


if __name__ == "__main__":
    cells = Cells("cut")
    with tempfile.TemporaryDirectory() as folder:
        train = rows(Path(folder))
        for label, (strategy, own) in WORK.items():
            for number in range(TIMES):
                for kind, options in KINDS.items():
                    key = f"{label}/{kind}/{number}"
                    call = (train, strategy, [*own, *options], Path(folder) / "cache")
                    if kind == "warm" and number == 0 and key not in cells.kept:
                        measure(*call)  # fills the cache
                    cells.measure(key, lambda: measure(*call))
    table(cells.kept)
