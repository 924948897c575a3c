"""Real processes, really killed: what is resumed comes to the bits of a run to which nothing happened.

Two chains of processes side by side, one of each verb, killed at random moments (from a seed), interrupted by Ctrl-C,
their newest checkpoint torn; what is left to do is done in this process. Imports take longer than all the rest, so
one chain serves several tests.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import whet
from whet.engine import checkpoint

MACHINE = ("seconds", "rows_per_second", "memory_mb")
FIXED = {"precision": "fp32", "threads": 1, "checkpoint_seconds": 0.03, "batch_size": 16}
OWN: dict[str, dict[str, Any]] = {
    "fine-tune": {"steps": 160, "strategy": "top(3)", "learning_rate": 1e-3},
    "train": {"steps": 800, "patience": 1000},
}
PATIENCE = 120.0
"""Seconds after which a process that should have got somewhere counts as stuck."""


def flags(options: dict[str, Any]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@dataclass
class Chain:
    """One run, worked on by one process after the other."""

    verb: str
    folder: Path
    command: list[str]
    chance: random.Random
    exits: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)

    def start(self) -> subprocess.Popen[str]:
        begun = (self.folder / "run.json").exists()
        words = ["resume", str(self.folder)] if begun else self.command
        return subprocess.Popen(
            [sys.executable, "-m", "whet", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def done(self) -> int:
        """Steps that the newest checkpoint stands for."""
        names = [path.name for path in checkpoint.listed(self.folder / "checkpoints")]
        return int(names[0].partition("-")[0]) if names else 0

    def wait_until(self, process: subprocess.Popen[str], true: Callable[[], bool]) -> None:
        begun = time.monotonic()
        while not true() and process.poll() is None:
            assert time.monotonic() - begun < PATIENCE, f"{self.verb}: no progress"
            time.sleep(0.003)

    def interrupt(self, *numbers: signal.Signals, further: int, pause: float = 0.005) -> None:
        """Start a process, let it do some further steps, and send it signals at a random moment."""
        process, aim = self.start(), self.done() + further
        self.wait_until(process, lambda: self.done() >= aim)
        time.sleep(self.chance.uniform(0, 0.03))
        for number in numbers:
            process.send_signal(number)
            time.sleep(pause)
        self.said.append(process.communicate(timeout=PATIENCE)[1])
        self.exits.append(process.returncode)
        self.reached.append(self.done())

    def kill_while_saving(self) -> None:
        """Start a process, let it train to the end, and kill it when it writes the model."""
        process = self.start()
        self.wait_until(process, lambda: any((self.folder / name).exists() for name in (".model", "model")))
        process.kill()
        self.said.append(process.communicate(timeout=PATIENCE)[1])
        self.exits.append(process.returncode)

    def tear_newest(self) -> str:
        """Cut a file of the newest checkpoint short, as a power failure may."""
        newest = checkpoint.listed(self.folder / "checkpoints")[0]
        file = newest / self.chance.choice(
            ["moved.safetensors", "optimizer.safetensors", "facts.json", "manifest.json"]
        )
        os.truncate(file, file.stat().st_size // 2)
        return newest.name


def fine_tune_chain(chain: Chain) -> dict[str, Any]:
    for _ in range(3):
        chain.interrupt(signal.SIGKILL, further=chain.chance.randint(2, 8))
    chain.interrupt(signal.SIGINT, further=4)
    facts = {
        "saved": [path.name for path in checkpoint.listed(chain.folder / "checkpoints")],
        "torn": chain.tear_newest(),
    }
    for pause in (0.005, 0.015, 0.04, 0.01):
        # Too soon after the first, the second signal is one with it; too late, and the run has stopped already.
        chain.interrupt(signal.SIGINT, signal.SIGINT, further=2, pause=pause)
        if "stopped at once" in chain.said[-1]:
            break
    return facts


def train_chain(chain: Chain) -> dict[str, Any]:
    for _ in range(2):
        chain.interrupt(signal.SIGKILL, further=chain.chance.randint(10, 60))
    chain.kill_while_saving()
    return {}


@dataclass
class Case:
    chain: Chain
    facts: dict[str, Any]
    whole: Path


@pytest.fixture(scope="module")
def cases(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("killed")
    chains = {}
    for number, (verb, own) in enumerate(OWN.items()):
        options = {"model": tiny_bert, **FIXED, **own, "out": folder / verb}
        command = [verb, str(rows_csv), "--quiet", *flags(options)]
        chains[verb] = Chain(verb, folder / verb, command, random.Random(number))
    with ThreadPoolExecutor(2) as side_by_side:
        pending = {
            "fine-tune": side_by_side.submit(fine_tune_chain, chains["fine-tune"]),
            "train": side_by_side.submit(train_chain, chains["train"]),
        }
        # Meanwhile, the same runs without any trouble; also without a cache, and with checkpoints at other times.
        for verb, call in (("fine-tune", whet.fine_tune), ("train", whet.train)):
            options = {"model": tiny_bert, **FIXED, **OWN[verb], "out": folder / f"{verb} whole"}
            call(rows_csv, quiet=True, **{**options, "cache": "off", "checkpoint_seconds": 3600.0})
        facts = {verb: future.result() for verb, future in pending.items()}
    for chain in chains.values():
        if not (chain.folder / "metrics.json").exists():
            whet.resume(chain.folder, quiet=True)
    return {verb: Case(chains[verb], facts[verb], folder / f"{verb} whole") for verb in chains}


def progress(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MACHINE} for line in lines]


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("verb", OWN)
def test_killed_runs_come_to_the_same_bits(verb: str, cases: dict[str, Case]) -> None:
    case = cases[verb]
    killed = case.chain.folder
    assert case.chain.exits[:2] == [-signal.SIGKILL] * 2, case.chain.said
    assert case.chain.exits[2] in (-signal.SIGKILL, 0), case.chain.said
    assert 0 < case.chain.reached[0] < case.chain.reached[1] < OWN[verb]["steps"]
    for name in ("model.safetensors", "head.safetensors", "head.json", "config.json", "README.md"):
        assert (killed / "model" / name).read_bytes() == (case.whole / "model" / name).read_bytes(), name
    assert (killed / "predictions.csv").read_bytes() == (case.whole / "predictions.csv").read_bytes()


@pytest.mark.parametrize("verb", OWN)
def test_their_progress_tells_of_no_interruption(verb: str, cases: dict[str, Case]) -> None:
    killed, whole = progress(cases[verb].chain.folder), progress(cases[verb].whole)
    assert [line["step"] for line in whole if line["split"] == "train"] == list(range(1, OWN[verb]["steps"] + 1))
    assert killed == whole


@pytest.mark.parametrize("verb", OWN)
def test_their_figures_are_the_same(verb: str, cases: dict[str, Case]) -> None:
    killed, whole = (whet.load(path).metrics for path in (cases[verb].chain.folder, cases[verb].whole))
    assert killed.keys() == whole.keys()
    for name in killed.keys() - {"out", "seconds", "peak_memory_mb", "phases", "baselines", "estimate"}:
        assert killed[name] == whole[name], name
    for name in ("phases", "baselines"):
        times = dict.fromkeys(("seconds", "validating", "saving"))
        untimed = [[{**one, **times} for one in metrics[name]] for metrics in (killed, whole)]
        assert untimed[0] == untimed[1], name


@pytest.mark.parametrize("verb", OWN)
def test_what_happened_is_put_down(verb: str, cases: dict[str, Case]) -> None:
    happened = events(cases[verb].chain.folder)
    assert [event["event"] for event in happened][:1] == ["started"]
    assert happened[-1]["event"] == "finished"
    resumed = [event for event in happened if event["event"] == "resumed"]
    assert len(resumed) >= len(cases[verb].chain.exits) - 1
    assert all(event["changed"] == {} for event in resumed), "the processes were not alike"


@pytest.mark.parametrize("verb", OWN)
def test_nothing_half_written_is_left(verb: str, cases: dict[str, Case]) -> None:
    folders = [
        {str(path.relative_to(folder)) for path in folder.rglob("*")}
        for folder in (cases[verb].chain.folder, cases[verb].whole)
    ]
    assert folders[0] == folders[1]


def test_ctrl_c_saves_and_says_how_to_go_on(cases: dict[str, Case]) -> None:
    chain, facts = cases["fine-tune"].chain, cases["fine-tune"].facts
    assert chain.exits[3] == 130, chain.said[3]
    assert f"whet resume {chain.folder}" in chain.said[3]
    assert "Traceback" not in chain.said[3]
    assert int(facts["saved"][0].partition("-")[0]) == chain.reached[3]
    stopped = [event for event in events(chain.folder) if event["event"] == "stopped"]
    assert "after a finished step" in stopped[0]["why"]


def test_a_second_ctrl_c_ends_at_once(cases: dict[str, Case]) -> None:
    chain = cases["fine-tune"].chain
    assert chain.exits[4:] == [130] * (len(chain.exits) - 4), chain.said[4:]
    assert "stopped at once" in chain.said[-1], chain.said[4:]
    assert "whet resume" in chain.said[-1]
    assert "Traceback" not in chain.said[-1]


def test_a_torn_checkpoint_is_said_and_passed_over(cases: dict[str, Case]) -> None:
    chain, facts = cases["fine-tune"].chain, cases["fine-tune"].facts
    assert facts["torn"] == facts["saved"][0]
    assert re.search(rf"checkpoint {facts['torn']} is damaged; \S+ is used", chain.said[4])
