"""What whet says of real sets: SST-2, BANKING77 and emotion, SST-2 with labels drawn at random, SST-2 made uneven.

2,000 training rows drawn with seed 0 (fewer where a set is made uneven), all validation and test rows, the default
model and options. BANKING77 has no validation rows: 15 % of the 2,000 are. Random labels are a seeded permutation in
every part; uneven means that 3 of 100 rows are positive.
"""

from __future__ import annotations

import csv
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cells import SHARED, Cells, run_json

ROWS = 2000
Rows = list[list[str]]


def drawn(rows: Rows, chance: random.Random) -> Rows:
    return chance.sample(rows, min(ROWS, len(rows)))


def as_they_are(rows: Rows, chance: random.Random) -> Rows:
    return rows


def shuffled(rows: Rows, chance: random.Random) -> Rows:
    labels = [label for _, label in rows]
    chance.shuffle(labels)
    return [[text, label] for (text, _), label in zip(rows, labels, strict=True)]


def uneven(rows: Rows, chance: random.Random) -> Rows:
    """All rows of the one label, and of the other as many as make 3 of 100."""
    one, other = sorted({label for _, label in rows})
    many = [row for row in rows if row[1] == one]
    few = chance.sample([row for row in rows if row[1] == other], max(1, round(len(many) * 3 / 97)))
    made = many + few
    chance.shuffle(made)
    return made


SETS: dict[str, tuple[str, Callable[[Rows, random.Random], Rows]]] = {
    "SST-2": ("sst2", as_they_are),
    "BANKING77": ("banking77", as_they_are),
    "emotion": ("emotion", as_they_are),
    "SST-2, labels at random": ("sst2", shuffled),
    "SST-2, 3 % positive": ("sst2", uneven),
}


def parts(of: str, change: Callable[[Rows, random.Random], Rows], work: Path) -> dict[str, Path]:
    """The files of a set, as they are used; a set without one for validation gives a share of its training rows."""
    chance, made = random.Random(0), {}
    for part in ("train", "dev", "val", "test"):
        if not (SHARED / "data" / of / f"{part}.csv").exists():
            continue
        with (SHARED / "data" / of / f"{part}.csv").open(newline="", encoding="utf-8") as handle:
            header, *rows = list(csv.reader(handle))
        pair = [header.index("text"), header.index("label")]
        rows = change([[row[at] for at in pair] for row in rows], chance)
        made[part] = work / f"{part}.csv"
        with made[part].open("w", newline="", encoding="utf-8") as handle:
            rows = drawn(rows, chance) if part == "train" else rows
            csv.writer(handle).writerows([["text", "label"], *rows])
    return made


def measure(of: str, change: Callable[[Rows, random.Random], Rows]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        files = parts(of, change, Path(folder))
        valid = files.get("dev") or files.get("val") or "0.15"
        command = [sys.executable, "-m", "whet", "fine-tune", str(files["train"]), f"--valid={valid}"]
        command += [f"--test={files['test']}", f"--out={folder}/run", "--json", "--quiet", "--cache=off"]
        result = run_json(command)
        size = Path(folder, "run", "report.html").stat().st_size
        threads = json.loads(Path(folder, "run", "run.json").read_text(encoding="utf-8"))["machine"]["threads"]
    kept = {name: result[name] for name in ("test", "rows", "verdict", "intervals", "seconds")}
    held = [
        {k: one.get(k) for k in ("name", "absent", "settings", "cuts", "test", "seconds")}
        for one in result["baselines"]
    ]
    return {**kept, "baselines": held, "report_kb": round(size / 1024), "threads": threads}


if __name__ == "__main__":
    cells = Cells("verdicts")
    for name, (of, change) in SETS.items():
        cell = cells.measure(name, lambda: measure(of, change))
        print(f"{name}\n  {cell['verdict']['headline']}")
        for finding in cell["verdict"]["findings"]:
            print(f"  {finding['kind']}: {finding['text']}")
        for one in cell["baselines"]:
            score = one["absent"] or f"{100 * one['test']['accuracy']:.1f} %"
            print(f"  {one['name']}: {score}, {one['seconds']} s  {'; '.join(one['cuts'] or ())}")
        print(
            f"  report {cell['report_kb']} KB; baselines {cell['seconds']['baselines']} s, "
            f"training {cell['seconds']['train']} s\n"
        )
