"""Any number of labels a text: the entity types present in a sentence of WNUT-17, none to six. whet beside
transformers' Trainer on the same files, three seeds.

For both the learning rate is chosen on validation from the same four, with seed 0, and micro-F1 on test is read for the
chosen rate only; for both the threshold is chosen on validation. Trainer runs as it is fastest (`--tuned`) and keeps
its best epoch. The naive baselines are those of whet's run with seed 0. Cells are kept in results/multi-label.json: a
stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path

from cells import SHARED, Cells, run_json
from quality import default_model

RATES = ("5e-5", "1e-4", "2e-4", "4e-4")
SEEDS = (0, 1, 2)
EPOCHS = 5
WORK = Path(tempfile.gettempdir()) / "whet-bench"


def files() -> dict[str, Path]:
    """The three files with the columns text,labels: tokens joined by spaces, entity types joined by ";"."""
    made = {part: WORK / f"wnut17-types-{part}.csv" for part in ("train", "dev", "test")}
    WORK.mkdir(exist_ok=True)
    for part, path in made.items():
        lines = (SHARED / "data" / "wnut17" / f"{part}.jsonl").read_text("utf-8").splitlines()
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(("text", "labels"))
            for line in map(json.loads, lines):
                types = {tag[2:] for tag in line["tags"] if tag != "O"}
                writer.writerow((" ".join(line["tokens"]), ";".join(sorted(types))))
    return made


def peer(cells: Cells, python: str, rate: str, seed: int) -> dict:
    script = str(Path(__file__).parent / "peers" / "hf_multi_label.py")
    options = [f"--{part}={path}" for part, path in files().items()] + [f"--model={default_model(python)}"]
    options += ["--tuned", f"--epochs={EPOCHS}", f"--lr={rate}", f"--seed={seed}"]
    return cells.measure(f"hf_trainer_tuned/{rate}/seed{seed}", lambda: run_json([python, script, *options]))


def whet(cells: Cells, rate: str, seed: int, *, baselines: bool = False) -> dict:
    """One run of the command line; with the baselines, for their scores alone."""
    parts = files()
    command = [sys.executable, "-m", "whet", "fine-tune", str(parts["train"]), "--task", "multi-label", "--json"]
    command += [f"--valid={parts['dev']}", f"--test={parts['test']}", f"--seed={seed}", f"--epochs={EPOCHS}"]
    command += [f"--learning-rate={rate}", "--no-forgetting", "--quiet", "--cache=off"]
    command += [] if baselines else ["--no-baselines"]

    def run() -> dict:
        with tempfile.TemporaryDirectory() as folder:
            return slim(run_json([*command, f"--out={folder}/run"]))

    return cells.measure(f"whet{' and baselines' if baselines else ''}/{rate}/seed{seed}", run)


def slim(result: dict) -> dict:
    """What the table needs of a run, and what explains it."""
    kept = {name: result[name] for name in ("valid", "test", "seconds", "kept", "peak_memory_mb")}
    kept["threshold"] = result["thresholds"][0]["threshold"]
    return {**kept, "baselines": {one["name"]: one.get("test") for one in result["baselines"]}}


def chosen(found: dict[str, float]) -> str:
    return max(found, key=lambda rate: found[rate])


def table(cells: Cells) -> None:
    """Mean test micro-F1 and seconds of training of each side, then each seed."""
    for side, part, seconds in (
        ("hf_trainer_tuned", "dev", lambda cell: cell["train_seconds"]),
        ("whet", "valid", lambda cell: cell["seconds"]["train"]),
    ):
        tried = {rate: cells.kept.get(f"{side}/{rate}/seed0") for rate in RATES}
        rates = {rate: cell[part]["micro_f1"] for rate, cell in tried.items() if cell}
        if not rates:
            print(f"{side}: missing")
            continue
        best = chosen(rates)
        own = [cell for seed in SEEDS if (cell := cells.kept.get(f"{side}/{best}/seed{seed}"))]
        scores = [100 * cell["test"]["micro_f1"] for cell in own]
        shown = " ".join(f"{score:.2f}" for score in scores)
        time = statistics.mean(seconds(cell) for cell in own)
        print(f"{side:18} rate {best}  micro-F1 {statistics.mean(scores):.2f} ({shown})  {time:.0f} s training")
    for key, cell in cells.kept.items():
        for name, scores in cell.get("baselines", {}).items():
            print(f"{name:18} {key}  micro-F1 {100 * scores['micro_f1']:.2f}" if scores else f"{name}: not made")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter of the peers' environment")
    parser.add_argument("--only", choices=("peers", "whet"))
    parser.add_argument("--rate", choices=RATES, help="one run of each side at this rate, seed 0, and no more")
    asked = parser.parse_args()
    cells = Cells("multi-label")
    for side in ("peers", "whet"):
        if asked.only in (None, side):
            measure(cells, side, asked.peers_python, asked.rate)
    table(cells)


def measure(cells: Cells, side: str, python: str, only: str | None) -> None:
    """Each rate with seed 0, then the other seeds at the best; `only` one rate, with seed 0."""

    def run(rate: str, seed: int) -> dict:
        return peer(cells, python, rate, seed) if side == "peers" else whet(cells, rate, seed)

    if only:
        run(only, 0)
        return
    best = chosen({rate: run(rate, 0)["dev" if side == "peers" else "valid"]["micro_f1"] for rate in RATES})
    for seed in SEEDS:
        run(best, seed)
    if side == "whet":
        whet(cells, best, 0, baselines=True)


if __name__ == "__main__":
    main()
