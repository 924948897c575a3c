"""How fast whet trains beside other libraries on this machine: every row of docs/guide/speed.md.

The sides of a work take turns, repetition by repetition (peer, whet, peer, whet ...), each in a process of its own;
the number of the repetition is the seed, so times and scores come from the same runs. What is timed on each side is
said in speed_sides.py, which rates and rows in speed_works.py, how ratios are made in speed_table.py.
Cells are kept in results/speed.json: a stopped benchmark goes on where it was, and `--rows` measures a part.
Run it on an idle machine; each cell keeps the load averages from before it. All of it takes an hour or more on 2 cores.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path

from cells import Cells
from speed_table import line, markdown
from speed_works import Work, works

TRIAL_ROWS = 64


def measure(name: str, work: Work, cells: Cells, repetitions: int) -> None:
    """Print what will run, run what is not kept, print the work's rows."""
    parts = work.parts()
    print(f"\n{name}, {repetitions} times in turn:")
    for label, side in work.sides.items():
        print(f"  {label}: {shlex.join(side.command(parts, 0))}")
    for number in range(repetitions):
        for label, side in work.sides.items():
            cells.measure(f"{label}/{number}", lambda: side.run(parts, number))
    for row in work.rows:
        print(line(row, cells.kept))


def trial_cells() -> Cells:
    """Cells that begin empty and leave the kept ones alone."""
    cells = Cells("speed")
    cells.path, cells.kept = Path(tempfile.mkdtemp()) / "speed.json", {}
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=".venv-peers/bin/python", help="interpreter that has transformers")
    parser.add_argument("--flair-python", default=".venv-flair/bin/python", help="interpreter that has Flair")
    parser.add_argument("--rows", metavar="NAME,NAME", help="only these works, for example full-sst2,start")
    parser.add_argument("--repetitions", type=int, help="how often each side runs: 3, but 5 for start")
    parser.add_argument("--table", action="store_true", help="print the tables as Markdown; measure nothing")
    parser.add_argument(
        "--trial", action="store_true", help=f"everything once on {TRIAL_ROWS} rows, nothing kept: does it run?"
    )
    arguments = parser.parse_args()
    every = works(arguments.peers_python, arguments.flair_python, TRIAL_ROWS if arguments.trial else None)
    names = arguments.rows.split(",") if arguments.rows else list(every)
    if unknown := set(names) - every.keys():
        parser.error(f"--rows: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    cells = trial_cells() if arguments.trial else Cells("speed")
    if not arguments.table:
        for name in names:
            repetitions = 1 if arguments.trial else arguments.repetitions or every[name].repetitions
            measure(name, every[name], cells, repetitions)
    print(f"\n{markdown({name: every[name] for name in names}, cells.kept)}")


if __name__ == "__main__":
    main()
