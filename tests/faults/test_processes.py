"""Two processes that share the work of each step come to what one comes to, up to rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import whet

OPTIONS: dict[str, Any] = {"steps": 20, "precision": "fp32", "threads": 1, "token_budget": 200, "learning_rate": 1e-3}
SCRIPT = """
import sys
from whet.cli import app

for verb in ("fine-tune", "train"):
    assert not app([verb, *sys.argv[1:]], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def two(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which two processes ran both verbs, without naming a run folder, and what they printed."""
    here = tmp_path_factory.mktemp("two")
    (here / "both.py").write_text(SCRIPT)
    flags = [part for name, value in OPTIONS.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "both.py", str(rows_csv), "--model", str(tiny_bert), "--json", "--quiet", *flags]
    told = os.environ | ({"ACCELERATE_USE_CPU": "true"} if torch.accelerator.is_available() else {})
    made = subprocess.run(command, cwd=here, env=told, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr[-3000:]
    return here, made.stdout


def losses(folder: Path, split: str, name: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if line["split"] == split]


@pytest.mark.parametrize(("verb", "name"), [("fine_tune", "rows"), ("train", "rows-2")])
def test_two_processes_learn_what_one_learns(
    verb: str, name: str, two: tuple[Path, str], tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    folder = two[0] / "runs" / name
    asked = json.loads((folder / "run.json").read_text())
    assert (asked["verb"], asked["machine"]["processes"]) == (verb, 2)
    one = getattr(whet, verb)(rows_csv, model=tiny_bert, quiet=True, out=tmp_path / "one", **OPTIONS)
    found, expected = losses(folder, "train", "loss"), losses(one.path, "train", "loss")
    assert len(expected) == 20
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(losses(folder, "valid", "log_loss"), losses(one.path, "valid", "log_loss"), rtol=1e-4)
    texts = ["my card was swallowed", "where is the parcel I ordered?", "I need to borrow some money for a car"]
    np.testing.assert_allclose(whet.load(folder).probabilities(texts), one.probabilities(texts), atol=1e-4)


def test_only_one_process_speaks_and_writes(two: tuple[Path, str]) -> None:
    here, said = two
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["rows", "rows-2"]
    metrics = [json.loads(line) for line in said.splitlines()]
    assert [made["out"] for made in metrics] == ["runs/rows", "runs/rows-2"]
    for name in ("rows", "rows-2"):
        events = [
            json.loads(line)["event"] for line in (here / "runs" / name / "events.jsonl").read_text().splitlines()
        ]
        assert events == ["started", "finished"]
        steps = [int(step) for step in losses(here / "runs" / name, "train", "step")]
        assert steps == list(range(1, 21))
