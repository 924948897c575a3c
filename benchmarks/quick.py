"""Has whet become slower? In under five minutes on two cores: two ratios, held against those kept for this processor.

`full`: seconds of a reference loop / seconds of whet, one epoch of full fine-tuning on 800 rows, batch 16. The loop
is written below: plain PyTorch and transformers, fp32, no validation. `warm`: seconds of a probe of ten epochs on
4,000 rows that computes the body's states / of one that finds them in the cache. Both sides take turns, three times;
each ratio is the median of the three. A ratio says more than seconds on a machine that is not idle, but the two sides
of `full` need not slow down alike: run it again before believing it.

Ratios are kept in results/quick.json by the processor's instructions. Ends with 1 where one is more than a quarter
below the kept one. Where none is kept for these instructions, or with `--keep`, those measured now are.
The rows are drawn with seed 0 from SST-2; without it, those of examples/messages.csv are repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cells import RESULTS, SHARED, machine, run_json
from quality import default_model

SIZES = {"full": 800, "warm": 4000, "valid": 100}
TIMES = 3
SLACK = 0.75
KEPT = RESULTS / "quick.json"
EXAMPLES = Path(__file__).parent.parent / "examples" / "messages.csv"
Rows = list[tuple[str, str]]


def read(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as handle:
        return [(row["text"], row["label"]) for row in csv.DictReader(handle)]


def reference(path: Path) -> dict[str, float]:
    """One epoch as a tutorial writes it: random batches of 16, each padded to its longest row."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    rows, folder = read(path), default_model(sys.executable)
    index = {name: number for number, name in enumerate(sorted({label for _, label in rows}))}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(index)).train()
    encoded = tokenizer([text for text, _ in rows], truncation=True)["input_ids"]
    labels = torch.tensor([index[label] for _, label in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batches = torch.randperm(len(rows)).split(16)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(batches))

    begun = time.perf_counter()
    for batch in batches:
        inputs = tokenizer.pad({"input_ids": [encoded[row] for row in batch.tolist()]}, return_tensors="pt")
        model(**inputs, labels=labels[batch]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {"seconds": time.perf_counter() - begun}


def write(rows: Rows, path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("text", "label"), *rows])
    return path


def files(work: Path) -> dict[str, Path]:
    """Training rows by the name of the ratio, and validation rows; no row is in both."""
    sst2, chance = SHARED / "data" / "sst2" / "train.csv", random.Random(0)
    rows = read(sst2 if sst2.exists() else EXAMPLES)
    chance.shuffle(rows)
    valid, rest = rows[: SIZES["valid"]], rows[SIZES["valid"] :]
    made = {name: (rest * -(-size // len(rest)))[:size] for name, size in SIZES.items()} | {"valid": valid}
    return {name: write(some, work / f"{name}.csv") for name, some in made.items()}


def whet(train: Path, valid: Path, *options: str, cache: str = "off") -> float:
    """Seconds of training by the command line, its one validation after each epoch included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "whet", "fine-tune", str(train), f"--valid={valid}"]
        command += ["--test=0", "--no-baselines", "--no-forgetting", "--json", "--quiet"]
        command += [f"--out={folder}/run", *options]
        return run_json([*command, f"--cache={cache}"])["seconds"]["train"]


def full(parts: dict[str, Path]) -> float:
    loop = run_json([sys.executable, __file__, "--reference", str(parts["full"])])["seconds"]
    return loop / whet(parts["full"], parts["valid"], "--epochs=1", "--learning-rate=1e-4")


def warm(parts: dict[str, Path]) -> float:
    with tempfile.TemporaryDirectory() as cache:
        probe = ("--strategy=probe", "--epochs=10")
        cold, again = (whet(parts["warm"], parts["valid"], *probe, cache=cache) for _ in range(2))
    return cold / again


def measure() -> dict[str, float]:
    """The median of each ratio, printed with all three."""
    found: dict[str, list[float]] = {"full": [], "warm": []}
    with tempfile.TemporaryDirectory() as work:
        parts = files(Path(work))
        for _ in range(TIMES):
            found["full"].append(full(parts))
            found["warm"].append(warm(parts))
    for name, ratios in found.items():
        print(f"{name}: {statistics.median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in ratios)})")
    return {name: round(statistics.median(ratios), 3) for name, ratios in found.items()}


def compare(now: dict[str, float], keep: bool) -> int:
    """Hold the ratios against those kept for this processor's instructions; returns the exit code."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    flags = " ".join(machine()["flags"]) or "none of those that matter"
    if keep or flags not in kept:
        KEPT.write_text(json.dumps({**kept, flags: now}, indent=1, sort_keys=True) + "\n")
        print(f"kept for processors with {flags}")
        return 0
    slower = {name: before for name, before in kept[flags].items() if now[name] < SLACK * before}
    for name, before in slower.items():
        print(f"{name}: {now[name]:.2f} is {100 * (1 - now[name] / before):.0f} % below the kept {before:.2f}")
    print("slower than kept" if slower else f"none fell more than {100 * (1 - SLACK):.0f} % below the kept ratios")
    return 1 if slower else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the ratios measured now")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="only the reference loop on this file")
    arguments = parser.parse_args()
    if arguments.reference:
        print(json.dumps(reference(arguments.reference)))
    else:
        sys.exit(compare(measure(), arguments.keep))
