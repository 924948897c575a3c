"""Rates for what is added to a frozen body: the default model on SST-2, best validation accuracy.

200 training rows with three seeds, 2,000 rows with one; each drawn with seed 0, half of each label. The validation file
is SST-2's own (872 rows). Cells are kept in results/adapters.json; a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import tempfile
from pathlib import Path

from cells import SHARED, Cells

DATA = SHARED / "data" / "sst2"
SETS = {200: (0, 1, 2), 2000: (0,)}
RATES: dict[str, tuple[float | None, ...]] = {
    "full": (None,),
    "probe": (None,),
    "lora": (5e-4, 1.5e-3, 5e-3),
    "lora(targets=['query', 'value'])": (5e-4, 1.5e-3, 5e-3),
    "lora(blocks=2)": (1.5e-3,),
    "lora(dora=True)": (1.5e-3,),
    "lora(rank=32, alpha=64)": (1.5e-3,),
    "prefix": (1e-3, 3e-3, 1e-2, 3e-2),
    "prompt": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
ROUNDED = {"lora": 1.5e-3}
"""Also with the body rounded to each of these, where the library for it is installed."""
KINDS = {"int8": "torchao", "nf4": "bitsandbytes"}


def sample(rows: int, folder: Path) -> Path:
    """So many training rows, half of each label, in turn."""
    path = folder / f"sst2-{rows}.csv"
    with (DATA / "train.csv").open(newline="", encoding="utf-8") as handle:
        head, *every = list(csv.reader(handle))
    own = [[row for row in every if row[1] == label] for label in sorted({row[1] for row in every})]
    drawn = [random.Random(0).sample(part, rows // len(own)) for part in own]
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([head, *(row for some in zip(*drawn, strict=True) for row in some)])
    return path


def measure(train: Path, strategy: str, seed: int, options: dict) -> dict:
    import whet

    with tempfile.TemporaryDirectory() as folder:
        run = whet.fine_tune(
            train,
            strategy=strategy,
            seed=seed,
            valid=str(DATA / "dev.csv"),
            test=0,
            baselines=False,
            quiet=True,
            out=f"{folder}/run",
            **{name: value for name, value in options.items() if value is not None},
        )
        size = sum(file.stat().st_size for file in (run.path / "model").rglob("*.safetensors"))
        return {
            "accuracy": run.metrics["valid"]["accuracy"],
            "log_loss": run.metrics["valid"]["log_loss"],
            "moved": run.metrics["moved"],
            "bytes": size,
            "kept": run.metrics["kept"],
        }


def wanted(rows: int, seeds: tuple[int, ...]) -> list[tuple[str, str, int, dict]]:
    """(key, strategy, seed, options) of every cell."""
    found = []
    for strategy, rates in RATES.items():
        for rate in rates:
            for seed in seeds:
                found.append((f"{rows}/{strategy}/{rate}/{seed}", strategy, seed, {"learning_rate": rate}))
    for strategy, rate in ROUNDED.items():
        for kind in KINDS:
            for seed in seeds:
                options = {"learning_rate": rate, "quantize_body": kind}
                found.append((f"{rows}/{strategy} {kind}/{rate}/{seed}", strategy, seed, options))
    return found


def table(cells: dict[str, dict]) -> str:
    """One line per strategy and rate: mean accuracy and log-loss over seeds, with the deviation of one run."""
    lines = ["| rows | strategy | rate | accuracy % | log-loss | moved | saved, MB |", "| --- " * 7 + "|"]
    groups: dict[str, list[dict]] = {}
    for rows, seeds in SETS.items():
        for key, *_ in wanted(rows, seeds):
            if key in cells:
                groups.setdefault(key.rpartition("/")[0], []).append(cells[key])
    for name, own in groups.items():
        rows, strategy, rate = name.split("/")
        accuracy = [100 * cell["accuracy"] for cell in own]
        spread = f" ± {statistics.stdev(accuracy):.1f}" if len(own) > 1 else ""
        figures = (
            f"{statistics.mean(accuracy):.1f}{spread}",
            f"{statistics.mean(cell['log_loss'] for cell in own):.3f}",
            f"{own[0]['moved']:,}",
            f"{own[0]['bytes'] / 1e6:.2f}",
        )
        rate = "its own" if rate == "None" else rate
        lines.append(f"| {rows} | `{strategy}` | {rate} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table as Markdown; measure nothing")
    parser.add_argument("--rows", type=int, choices=tuple(SETS), help="one size alone")
    parser.add_argument("--only", default="", help="cells whose name holds this")
    arguments = parser.parse_args()
    cells = Cells("adapters")
    if not arguments.table:
        with tempfile.TemporaryDirectory() as folder:
            for rows, seeds in SETS.items():
                if arguments.rows in (None, rows):
                    train = sample(rows, Path(folder))
                    for key, strategy, seed, options in wanted(rows, seeds):
                        if arguments.only in key:
                            cells.measure(
                                key, lambda train=train, s=strategy, n=seed, o=options: measure(train, s, n, o)
                            )
    print(table(cells.kept))


if __name__ == "__main__":
    main()
