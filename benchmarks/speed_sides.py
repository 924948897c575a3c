"""The contenders of the speed benchmark and how one repetition of each is run, in a process of its own.

A cell of any side has `seconds` (the training call alone), `memory_mb` (most resident memory when training ended),
`accuracy` (test), `start` (seconds until the training call), `load` (the machine's load averages before it began) and
`told`: what the side said itself, its torch and threads included.

The training call of whet is the stage `train` of its metrics.json. It includes computing states of frozen layers, a
validation after every epoch and checkpoints. Those of the peers neither validate nor save, but Flair's tokenises,
and its frozen training scores the validation rows after every epoch.

`start` of whet is measured from outside: from spawning the process until progress.jsonl is there, which the training
call opens first; looked for every 10 ms. That of a peer is its `total_seconds` less training and evaluation: it
begins with the first line of the script, so starting the interpreter, about 0.02 s, is not in it.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from cells import SHARED, run_json
from quality import WORK, default_model, files

OWN_PEERS = Path(__file__).parent / "peers"
LIMIT = 600.0  # seconds after which a run that has not begun to train is given up
Files = dict[str, Path]


class Side(Protocol):
    """One contender. `command` is what one repetition runs, without the run folder; `run` runs it."""

    def command(self, parts: Files, seed: int) -> list[str]: ...

    def run(self, parts: Files, seed: int) -> dict: ...


def sampled(name: str, sizes: dict[str, int]) -> Files:
    """The files of a set, each part named in `sizes` cut to that many rows, drawn with seed 0; made anew each time."""
    made = files(name)
    WORK.mkdir(exist_ok=True)
    for part, size in sizes.items():
        with made[part].open(newline="", encoding="utf-8") as handle:
            rows = [(row["text"], row["label"]) for row in csv.DictReader(handle)]
        made[part] = WORK / f"{name}-{part}-{size}.csv"
        with made[part].open("w", newline="", encoding="utf-8") as handle:
            drawn = random.Random(0).sample(rows, min(size, len(rows)))
            csv.writer(handle).writerows([("text", "label"), *drawn])
    return made


@lru_cache
def model_folder() -> str:
    return default_model(sys.executable)


@dataclass(frozen=True)
class Peer:
    """Another library, by its runner: `script` in the folder `scripts`, run by the interpreter `python`."""

    python: str
    script: str
    options: tuple[str, ...]
    scripts: Path = SHARED / "peers"

    def command(self, parts: Files, seed: int) -> list[str]:
        rows = [f"--{part}={path}" for part, path in parts.items()]
        return [
            *(self.python, str(self.scripts / self.script), *rows),
            *(f"--model={model_folder()}", f"--seed={seed}", *self.options),
        ]

    def run(self, parts: Files, seed: int) -> dict:
        if not shutil.which(self.python):
            sys.exit(f"{self.python} is not there: run make peers, or name the interpreters (see --help)")
        load = os.getloadavg()
        told = run_json(self.command(parts, seed), WHET_SHARED=str(SHARED), HF_HUB_OFFLINE="1")
        train, evaluation = told["train_seconds"], told["settings"].get("eval_seconds")
        return {
            "seconds": train,
            "memory_mb": told["train_peak_rss_mb"],
            "accuracy": told["test_accuracy"],
            "start": None if evaluation is None else told["total_seconds"] - train - evaluation,
            "load": load,
            "told": told,
        }


def start_and_result(command: list[str], out: Path) -> tuple[float, dict]:
    """Seconds from spawning a run of whet until its training call, and its metrics."""
    begun = time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        while process.poll() is None and not (out / "progress.jsonl").exists():
            time.sleep(0.01)
            if time.perf_counter() - begun > LIMIT:
                process.kill()
        start = time.perf_counter() - begun
        _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(command)}\nended with {process.returncode}:\n{errors[-3000:]}")
    return start, json.loads((out / "metrics.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Whet:
    """whet's command line; nothing is kept between runs."""

    options: tuple[str, ...]

    def cache(self, seed: int) -> str:
        return "off"

    def command(self, parts: Files, seed: int) -> list[str]:
        rows = [str(parts["train"]), f"--valid={parts['dev']}", f"--test={parts['test']}"]
        return [
            *(sys.executable, "-m", "whet", "fine-tune", *rows, f"--seed={seed}", *self.options),
            *(f"--cache={self.cache(seed)}", "--no-baselines", "--no-forgetting", "--json", "--quiet"),
        ]

    def run(self, parts: Files, seed: int) -> dict:
        load = os.getloadavg()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            start, result = start_and_result([*self.command(parts, seed), f"--out={out}"], out)
            asked = json.loads((out / "run.json").read_text(encoding="utf-8"))
        told = {name: result[name] for name in ("seconds", "phases", "rows", "kept", "moved")}
        return {
            "seconds": result["seconds"]["train"],
            "memory_mb": result["peak_memory_mb"],
            "accuracy": result["test"]["accuracy"],
            "start": start,
            "load": load,
            "told": {**told, "captures": asked["captures"], "machine": asked["machine"]},
        }


@dataclass(frozen=True)
class Cached(Whet):
    """whet with a cache of its own for each repetition: empty when `first`, else as the first run left it."""

    first: bool

    def cache(self, seed: int) -> str:
        return str(WORK / f"cache-{seed}")

    def run(self, parts: Files, seed: int) -> dict:
        folder = Path(self.cache(seed))
        if self.first:
            shutil.rmtree(folder, ignore_errors=True)
            return super().run(parts, seed)
        if not folder.exists():
            super().run(parts, seed)  # the first run was measured in another session, and its cache is gone
        made = super().run(parts, seed)
        shutil.rmtree(folder)
        return made


@dataclass(frozen=True)
class Probes:
    """`whet probe`: many heads on one capture. Its training is the capture and the fits; it keeps nothing.

    Its cells have no score: which head is taken is chosen on the validation rows, so `best` is only kept."""

    options: tuple[str, ...]

    def command(self, parts: Files, seed: int) -> list[str]:
        rows = [str(parts["train"]), f"--valid={parts['dev']}", "--test=0"]
        return [sys.executable, "-m", "whet", "probe", *rows, *self.options, "--json", "--quiet"]

    def run(self, parts: Files, seed: int) -> dict:
        load = os.getloadavg()
        result = run_json(self.command(parts, seed))
        told = {name: result[name] for name in ("seconds", "best", "rows")}
        seconds = told["seconds"]["capture"] + told["seconds"]["fit"]
        return {"seconds": seconds, "memory_mb": None, "accuracy": None, "start": None, "load": load, "told": told}
