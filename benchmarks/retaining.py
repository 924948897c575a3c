"""What is kept of an earlier task, and at what price: the score on SST-2 against the score on emotion.

The default model is tuned on emotion (six labels, 2,000 rows, three epochs), and the result on SST-2 (2,000 rows, three
epochs) by each of the ways below. Both are then scored on their test rows: emotion by the head that it was tuned with,
on the body as SST-2 left it; after replay, by that head as the replay left it. Cells are kept in
results/retaining.json; a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from cells import SHARED, Cells, run_json

ROWS = 2000
EMOTION = "emotion-2000"
WAYS = (
    "full",
    *(f"with_replay(full, '{{emotion}}', share={share})" for share in (0.05, 0.1, 0.2, 0.4)),
    "with_replay(full, '{emotion}', share=0.2, keep='reservoir', rows=100)",
    *(f"pull_to_base(weights={strength})" for strength in (0.001, 0.01, 0.1, 1.0)),
    *(f"pull_to_base(features={strength})" for strength in (1.0, 10.0, 100.0)),
    *(f"interpolate(full, share={share})" for share in (0.25, 0.5, 0.75)),
    "interpolate",
    "top(2)",
    "probe",
)
SEEDS = (0, 1, 2)


def sample(name: str, folder: Path) -> Path:
    """2,000 training rows, drawn with seed 0."""
    path = folder / f"{name}-{ROWS}.csv"
    with (SHARED / "data" / name / "train.csv").open(newline="", encoding="utf-8") as handle:
        head, *rows = list(csv.reader(handle))
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([head, *random.Random(0).sample(rows, ROWS)])
    return path


def tune(name: str, train: Path, out: Path, seed: int, *options: str) -> dict:
    data = SHARED / "data" / name
    command = [sys.executable, "-m", "whet", "fine-tune", str(train), f"--seed={seed}", f"--out={out}", *options]
    valid = next(path for part in ("dev", "val") if (path := data / f"{part}.csv").exists())
    command += [f"--valid={valid}", f"--test={data / 'test.csv'}", "--cache=off"]
    return run_json([*command, "--no-baselines", "--no-forgetting", "--json", "--quiet"])


def accuracy(body: Path, head: Path, name: str) -> float:
    """Accuracy on a set's test rows of a saved body under a saved linear head, by plain transformers."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    with (SHARED / "data" / name / "test.csv").open(newline="", encoding="utf-8") as handle:
        rows = sorted(csv.DictReader(handle), key=lambda row: len(row["text"]))
    tokenizer, model = AutoTokenizer.from_pretrained(body), AutoModel.from_pretrained(body).eval()
    weights, labels = load_file(head / "head.safetensors"), json.loads((head / "head.json").read_text())["labels"]
    right = []
    for start in range(0, len(rows), 64):
        some = rows[start : start + 64]
        batch = tokenizer([row["text"] for row in some], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
            outputs = (states * mask).sum(1) / mask.sum(1) @ weights["layers.1.weight"].T + weights["layers.1.bias"]
        right += [labels[int(best)] == row["label"] for best, row in zip(outputs.argmax(1), some, strict=True)]
    return float(np.mean(right))


def measure(way: str, seed: int, work: Path) -> dict:
    """Emotion first, then SST-2 by the way."""
    first = work / f"{EMOTION}-{seed}"
    emotion, sst2 = sample("emotion", work), sample("sst2", work)
    if not first.exists():
        tune("emotion", emotion, first, seed)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        strategy = way.format(emotion=emotion)
        result = tune("sst2", sst2, out, seed, f"--model={first / 'model'}", f"--strategy={strategy}")
        replayed = out / "model" / "heads" / emotion.stem
        head = replayed if replayed.exists() else first / "model"
        return {
            "sst2": result["test"]["accuracy"],
            "emotion": accuracy(out / "model", head, "emotion"),
            "emotion_before": accuracy(first / "model", first / "model", "emotion"),
            "train_seconds": result["seconds"]["train"],
            "peak_memory_mb": result["peak_memory_mb"],
        }


def table(cells: dict[str, dict]) -> str:
    """One line per way: means over the seeds, with the deviation of one run."""
    lines = ["| way | SST-2 | emotion after | emotion lost | s |", "| --- | --- | --- | --- | --- |"]
    for way in WAYS:
        own = [cells[f"{way}/{seed}"] for seed in SEEDS if f"{way}/{seed}" in cells]
        if not own:
            continue

        def figure(values: list[float]) -> str:
            spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
            return f"{100 * statistics.mean(values):.1f}{spread}"

        lost = [cell["emotion_before"] - cell["emotion"] for cell in own]
        seconds = statistics.median(cell["train_seconds"] for cell in own)
        figures = [figure([cell[name] for cell in own]) for name in ("sst2", "emotion")]
        shown = way.replace("'{emotion}'", "'emotion.csv'")
        lines.append(f"| `{shown}` | {' | '.join(figures)} | {figure(lost)} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table as Markdown; measure nothing")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="for example 0")
    arguments = parser.parse_args()
    cells = Cells("retaining")
    if not arguments.table:
        with tempfile.TemporaryDirectory() as folder:
            for seed in map(int, arguments.seeds.split(",")):
                for way in WAYS:
                    cells.measure(f"{way}/{seed}", lambda way=way, seed=seed: measure(way, seed, Path(folder)))
    print(table(cells.kept))


if __name__ == "__main__":
    main()
