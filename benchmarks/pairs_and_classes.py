"""Numbers for pairs of texts (STS-B) and uneven classes (NICTA-PIBOSO) beside transformers' Trainer, three seeds.

Both sides get the same files and the same number of epochs, keep the epoch that is best on validation, and take of
three learning rates the one that is best on validation with seed 0; test scores are read for that rate only, from what
each side says of the test rows, by the same functions. Trainer runs as `benchmarks/peers/hf_rows.py --tuned` (bf16,
batches by length). The naive baselines are those of whet's run with seed 0. Cells are kept in
results/pairs-and-classes.json; a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cells import SHARED, Cells, run_json
from quality import default_model

RATES = ("5e-5", "1.5e-4", "4e-4")
SEEDS = (0, 1, 2)
EPOCHS = 4
SETS = {"stsb": ("score", "spearman"), "nicta_piboso": ("label", "macro_f1")}
"""The column to be learnt, and the score that chooses."""
PEER = Path(__file__).parent / "peers" / "hf_rows.py"

Measured = Callable[[str, str, int], dict]
"""A cell: set, rate and seed to its figures."""


def files(name: str) -> dict[str, Path]:
    return {part: SHARED / "data" / name / f"{part}.csv" for part in ("train", "dev", "test")}


def scores(name: str, part: str, answers: Sequence[str | float]) -> dict[str, float]:
    """Of what was said of a part's rows, in their order."""
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score

    column, _ = SETS[name]
    with files(name)[part].open(newline="", encoding="utf-8") as handle:
        truth = [row[column] for row in csv.DictReader(handle)]
    if column == "score":
        numbers = [float(value) for value in truth], [float(value) for value in answers]
        return {"spearman": float(spearmanr(*numbers).statistic), "pearson": float(pearsonr(*numbers).statistic)}
    found = {f"{how}_f1": float(f1_score(truth, answers, average=how)) for how in ("macro", "weighted")}
    return {**found, "accuracy": float(accuracy_score(truth, answers))}


def trainer(python: str) -> Measured:
    model = default_model(python)

    def measured(name: str, rate: str, seed: int) -> dict:
        command = [python, str(PEER), *(f"--{part}={path}" for part, path in files(name).items()), f"--model={model}"]
        result = run_json([*command, "--tuned", f"--epochs={EPOCHS}", f"--lr={rate}", f"--seed={seed}"])
        answers = result.pop("answers")
        return {**result, **{part: scores(name, part, answers[part]) for part in ("dev", "test")}}

    return measured


def whet(name: str, rate: str, seed: int, *, baselines: bool = False) -> dict:
    """One run of the command line; with the baselines, for their scores alone."""
    parts = files(name)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "whet", "fine-tune", str(parts["train"]), f"--out={folder}/run", "--json"]
        command += [f"--valid={parts['dev']}", f"--test={parts['test']}", f"--seed={seed}", f"--epochs={EPOCHS}"]
        command += [f"--learning-rate={rate}", f"--metric={SETS[name][1]}", "--no-forgetting", "--quiet", "--cache=off"]
        result = run_json(command if baselines else [*command, "--no-baselines"])
        with (Path(folder) / "run" / "predictions.csv").open(newline="", encoding="utf-8") as handle:
            said = scores(name, "test", [row["prediction"] for row in csv.DictReader(handle)])
    kept = {key: result[key] for key in ("kept", "peak_memory_mb", "intervals")}
    held = {one["name"]: one.get("test") for one in result["baselines"]}
    seconds = result["seconds"]
    return {"seconds": seconds["train"], "stages": seconds, "dev": result["valid"], "test": said, **kept, "held": held}


def measure(cells: Cells, side: str, run: Measured, name: str, rates: Sequence[str], seeds: Sequence[int]) -> str:
    """Every rate with the first seed; the best on validation with the others. Returns that rate."""

    def cell(rate: str, seed: int) -> dict:
        return cells.measure(f"{name}/{side}/{rate}/seed{seed}", lambda: run(name, rate, seed))

    best = max(rates, key=lambda rate: cell(rate, seeds[0])["dev"][SETS[name][1]])
    for seed in seeds[1:]:
        cell(best, seed)
    return best


def table(cells: dict[str, dict]) -> None:
    """One line for each side of each set: rate, mean test scores with the deviation of one run, seconds of training."""
    for name, (_, main) in SETS.items():
        for side in ("whet", "hf_trainer"):
            first = [key for key in cells if key.startswith(f"{name}/{side}/") and key.endswith("/seed0")]
            if not first:
                print(f"{name:13} {side:11} missing")
                continue
            best = max(first, key=lambda key: cells[key]["dev"][main]).rsplit("/", 1)[0]
            own = [cells[f"{best}/seed{seed}"] for seed in SEEDS if f"{best}/seed{seed}" in cells]
            shown = []
            for score in own[0]["test"]:
                values = [100 * one["test"][score] for one in own]
                spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
                shown.append(f"{score} {statistics.mean(values):.2f}{spread}")
            rate, seconds = best.rsplit("/", 1)[1], statistics.mean(one["seconds"] for one in own)
            print(f"{name:13} {side:11} {rate:>6}  {', '.join(shown)}  {seconds:.1f} s, {len(own)} seeds")
        for baseline, found in cells.get(f"{name}/baselines", {}).get("held", {}).items():
            print(f"{name:13} {baseline:11} {found[main]:.4f}" if found else f"{name:13} {baseline:11} not made")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter of the peers' environment")
    parser.add_argument("--only", choices=("whet", "hf_trainer"))
    parser.add_argument("--set", choices=tuple(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--table", action="store_true", help="print what is there; measure nothing")
    asked = parser.parse_args()
    kept = Cells("pairs-and-classes")
    for name in () if asked.table else (asked.set,) if asked.set else tuple(SETS):
        if asked.only != "hf_trainer":
            chosen = measure(kept, "whet", whet, name, RATES, asked.seeds)
            kept.measure(f"{name}/baselines", lambda n=name, r=chosen: whet(n, r, 0, baselines=True))
        if asked.only != "whet":
            measure(kept, "hf_trainer", trainer(asked.peers_python), name, RATES, asked.seeds)
    table(kept.kept)
