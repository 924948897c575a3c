"""How the default rates were chosen: validation accuracy by rate, on seeded samples of three sets.

2,000 training rows each (BANKING77 3,000), drawn with seed 0; 3 epochs, default options otherwise; test rows are
not touched. `full` moves a new head at ten times the rate, `phases('everything()')` at the same one.
"""

from __future__ import annotations

import csv
import random
import sys
import tempfile
from pathlib import Path

from cells import SHARED, Cells, run_json

SETS = {"sst2": (2000, "dev.csv"), "emotion": (2000, "val.csv"), "banking77": (3000, None)}
PLANS = {
    "1.5e-4, head x 10": "full(learning_rate=1.5e-4)",
    "1.5e-4, head x 1": "phases('everything()', learning_rate=1.5e-4, length='3 epochs')",
    "5e-5, head x 10": "full(learning_rate=5e-5)",
    "4e-4, head x 10": "full(learning_rate=4e-4)",
}


def sample(name: str, work: Path) -> tuple[Path, Path]:
    """The training sample, and the validation file: the set's own, else 900 other rows."""
    size, valid = SETS[name]
    folder = SHARED / "data" / name
    with (folder / "train.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))[1:]
    random.Random(0).shuffle(rows)
    parts = {"train": rows[:size], "valid": rows[-900:]}
    for part, some in parts.items():
        with (work / f"{name}-{part}.csv").open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([("text", "label"), *some])
    return work / f"{name}-train.csv", folder / valid if valid else work / f"{name}-valid.csv"


def measure(train: Path, valid: Path, strategy: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "whet",
            "fine-tune",
            str(train),
            f"--valid={valid}",
            "--test=0",
            "--no-baselines",
            "--no-forgetting",
            "--json",
        ]
        result = run_json([*command, "--quiet", f"--strategy={strategy}", f"--out={folder}/run"])
    return {name: result[name] for name in ("valid", "kept", "rows", "seconds")}


if __name__ == "__main__":
    cells = Cells("rates")
    with tempfile.TemporaryDirectory() as folder:
        for label, strategy in PLANS.items():
            for name in SETS:
                files = sample(name, Path(folder))
                cells.measure(f"{label}/{name}", lambda: measure(*files, strategy))
    for label in PLANS:
        print(
            f"{label:20}", *(f"{name} {100 * cells.kept[f'{label}/{name}']['valid']['accuracy']:.1f}" for name in SETS)
        )
