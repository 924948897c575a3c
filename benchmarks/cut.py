"""What the cut saves: the same engine with it and without it, in turn, three times; training seconds and memory.

SST-2 and the default model. `cut` begins with an
empty cache, which `warm` then finds filled. Where it says 2,000 rows, they are drawn with
seed 0 from the training rows.
"""

from __future__ import annotations

import csv
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

from cells import SHARED, Cells, run_json

TIMES = 3
WORK = {
    "lift, head and 6 phases of an epoch": ("all rows", "lift", []),
    "top(2), 3 epochs": ("all rows", "top(2)", []),
    "probe, 10 epochs, 2,000 rows": ("2,000 rows", "probe", ["--epochs=10", "--patience=100"]),
    "gradual_unfreezing, 8 phases, 2,000 rows": ("2,000 rows", "gradual_unfreezing", []),
}
KINDS = {"cut": [], "uncut": ["--no-cut"], "warm": []}
SST2 = SHARED / "data" / "sst2"


def train_files(work: Path) -> dict[str, Path]:
    """The training rows by the name of the set."""
    with (SST2 / "train.csv").open(newline="", encoding="utf-8") as handle:
        every = list(csv.reader(handle))[1:]
    path = work / "sst2-2000.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("text", "label"), *random.Random(0).sample(every, 2000)])
    return {"all rows": SST2 / "train.csv", "2,000 rows": path}


def measure(train: Path, strategy: str, options: list[str], cache: Path) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "whet", "fine-tune", str(train), f"--strategy={strategy}", "--json", "--quiet"]
        command += ["--no-baselines", "--no-forgetting", f"--valid={SST2 / 'dev.csv'}", "--test=0"]
        command += [f"--out={folder}/run", *options]
        result = run_json(command, WHET_CACHE=str(cache))
        asked = json.loads(Path(folder, "run", "run.json").read_text(encoding="utf-8"))
    found = {name: result[name] for name in ("seconds", "peak_memory_mb", "phases", "valid", "rows")}
    return {**found, "captures": asked["captures"], "threads": asked["machine"]["threads"]}


def in_turn(train: Path, strategy: str, own: list[str]) -> dict[str, dict]:
    with tempfile.TemporaryDirectory() as cache:
        return {kind: measure(train, strategy, [*own, *options], Path(cache)) for kind, options in KINDS.items()}


def whole(cell: dict) -> float:
    return cell["seconds"]["train"]


def first_three(cell: dict) -> float:
    """Seconds of the first three phases (the head and the two highest blocks), without what computing states took."""
    names = [phase["phase"] for phase in cell["phases"]][:3]
    seconds = sum(phase["seconds"] for phase in cell["phases"] if phase["phase"] in names)
    return seconds - sum(fact.get("seconds", 0.0) for fact in cell["captures"] if fact["phase"] in names)


def line(label: str, found: dict[str, list[dict]], take: object) -> None:
    """Median seconds with the smallest and largest, and the ratios of medians."""
    seconds = {kind: [take(cell) for cell in cells] for kind, cells in found.items()}
    middle = {kind: statistics.median(values) for kind, values in seconds.items()}
    shown = "  ".join(f"{kind} {middle[kind]:6.1f} ({min(v):.1f}-{max(v):.1f})" for kind, v in seconds.items())
    ratios = [f"uncut/{kind} {middle['uncut'] / middle[kind]:.2f}" for kind in ("cut", "warm")]
    print(f"{label:42} {shown}  {'  '.join(ratios)}")


def table(kept: dict[str, dict]) -> None:
    for label in WORK:
        times = [kept[key] for number in range(TIMES) if (key := f"{label}/{number}") in kept]
        found = {kind: [time[kind] for time in times] for kind in KINDS}
        if not all(found.values()):
            print(f"{label:42} missing")
            continue
        line(label, found, whole)
        if label.startswith("lift"):
            line("  its first three phases, capture not counted", found, first_three)
        memory = {kind: statistics.median(cell["peak_memory_mb"] for cell in cells) for kind, cells in found.items()}
        size = max(fact["megabytes"] for fact in found["cut"][0]["captures"])
        shown = ", ".join(f"{kind} {value:.0f}" for kind, value in memory.items())
        print(f"{'  peak MB':42} {shown}; largest states {size:.0f} MB; {len(found['cut'])} times each")


if __name__ == "__main__":
    cells = Cells("cut")
    with tempfile.TemporaryDirectory() as folder:
        files = train_files(Path(folder))
        for label, (rows, strategy, own) in WORK.items():
            for number in range(TIMES):
                cells.measure(f"{label}/{number}", lambda: in_turn(files[rows], strategy, own))
    table(cells.kept)
