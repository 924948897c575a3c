"""How cost grows: full fine-tuning for one epoch on 1,000 to 100,000 rows of 16 tokens, and on rows of 16 to 512.

A row is made from one of SST-2: those of its words that are one token each, repeated until the row has its length
with the two special tokens, and shuffled. So every row has exactly that length, and no row needs padding.
100 such rows validate. Stages and memory are those of metrics.json; reading and tokenising are stages of their own.
Cells are kept in results/growth.json; all of it takes about 15 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from cells import SHARED, Cells, run_json
from quality import default_model

SIZES = tuple((rows, 16) for rows in (1_000, 10_000, 100_000))
LENGTHS = tuple((1_000, length) for length in (64, 256, 512))
SPECIAL = 2  # tokens that the tokenizer adds to a row
FEWEST_WORDS = 8  # rows with fewer would come out alike


def sources() -> list[tuple[list[str], str]]:
    """The words of one token of each training row of SST-2 that has enough of them, with its label."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{default_model(sys.executable)}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with (SHARED / "data" / "sst2" / "train.csv").open(newline="", encoding="utf-8") as handle:
        rows = [(row["text"].split(), row["label"]) for row in csv.DictReader(handle)]
    words = sorted({word for text, _ in rows for word in text})
    tokens = tokenizer.encode_batch(words, add_special_tokens=False)
    single = {word for word, encoded in zip(words, tokens, strict=True) if len(encoded.ids) == 1}
    kept = [([word for word in text if word in single], label) for text, label in rows]
    return [(text, label) for text, label in kept if len(text) >= FEWEST_WORDS]


def write_rows(path: Path, rows: int, length: int, seed: int) -> Path:
    """A CSV file of `rows` rows of `length` tokens, made from the sources in turn."""
    chance, made = random.Random(seed), sources()
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("text", "label"))
        for number in range(rows):
            words, label = made[number % len(made)]
            own = chance.sample(words, len(words))
            own = (own * -(-length // len(own)))[: length - SPECIAL]
            chance.shuffle(own)
            writer.writerow((" ".join(own), label))
    return path


def measure(rows: int, length: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        train = write_rows(Path(folder) / "train.csv", rows, length, seed=0)
        valid = write_rows(Path(folder) / "valid.csv", 100, length, seed=1)
        command = [sys.executable, "-m", "whet", "fine-tune", str(train), f"--valid={valid}", "--test=0"]
        command += ["--epochs=1", "--no-baselines", "--no-forgetting", "--cache=off"]
        command += ["--json", "--quiet", f"--out={folder}/run"]
        load = os.getloadavg()
        result = run_json(command)
    return {**{name: result[name] for name in ("seconds", "peak_memory_mb", "rows", "truncated")}, "load": load}


def line(rows: int, length: int, cells: list[dict]) -> str:
    """Medians of the stages in seconds, of rows per second and of peak memory."""
    if not cells:
        return f"| {rows:,} | {length} | missing | | | | | |"

    def middle(*names: str) -> float:
        return statistics.median(sum(cell["seconds"][name] for name in names) for cell in cells)

    before, train = middle("read", "tokenise"), middle("train")
    figures = [f"{middle('read'):.2f}", f"{middle('tokenise'):.2f}", f"{rows / before:,.0f}"]
    figures += [f"{train:.1f}", f"{rows / train:,.0f}"]
    memory = statistics.median(cell["peak_memory_mb"] for cell in cells)
    return f"| {rows:,} | {length} | {' | '.join(figures)} | {memory:,.0f} |"


def table(kept: dict[str, dict]) -> None:
    print("| rows | tokens each | read s | tokenise s | both, rows/s | train s | train, rows/s | peak MB |")
    print("| --- " * 8 + "|")
    for rows, length in (*SIZES, *LENGTHS):
        cells = [cell for key, cell in kept.items() if key.rsplit("/", 1)[0] == f"{rows} rows of {length}"]
        print(line(rows, length, cells))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1, help="times that each size is measured")
    parser.add_argument("--table", action="store_true", help="print what is there; measure nothing")
    arguments = parser.parse_args()
    cells = Cells("growth")
    if not arguments.table:
        for number in range(arguments.repetitions):
            for rows, length in (*SIZES, *LENGTHS):
                cells.measure(f"{rows} rows of {length}/{number}", lambda: measure(rows, length))
    table(cells.kept)
