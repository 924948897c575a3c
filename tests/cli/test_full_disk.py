"""A disk without room: one clear message, nothing that looks like a result, and a run that goes on when there is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def disk(here: Path) -> Iterator[Path]:
    """A file system of 64 KiB, as `disk` in the folder that the person stands in."""
    folder = here / "disk"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid():
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def test_a_disk_that_is_full_before_training(command: Any, here: Path, disk: Path, tiny: list[str]) -> None:
    (disk / "full").write_bytes(b"0" * 64 * 1024)
    ended = command("train", "rows.csv", *tiny, "--out", "disk/run")
    ended.refused(1, "No space left on device", "free some space, or choose another --out")
    assert not (disk / "run").exists()


def test_a_disk_that_fills_up_while_training(command: Any, here: Path, disk: Path, tiny: list[str]) -> None:
    resize(disk, "1m")
    words = ["fine-tune", "rows.csv", *tiny, "--epochs", "3", "--checkpoint-seconds", "0.001"]
    ended = command(*words, "--out", "disk/run")
    # What it kept is what a resume needs; it is no result.
    kept, ended.left = ended.left, set()
    ended.refused(1, "the run in disk/run stopped", "No space left on device", "whet resume disk/run")
    assert Path("disk/run/metrics.json") not in kept
    assert not any(path.is_relative_to("disk/run/model") for path in kept)
    command("predict", "disk/run", "rows.csv").refused(1, "is not finished", "whet resume disk/run")
    resize(disk, "8m")
    metrics = json.loads(command("resume", "disk/run", "--json").succeeded())
    assert metrics["kept"]["of"] == 9
    assert (disk / "run" / "model" / "README.md").exists()
