"""Memory that is free, and memory that was held: what limits count, and whose peak it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from whet.engine.precision import allowed_by_groups, free_memory, peak_memory_mb

STAT = "anon 500\ninactive_file {file}\n"
NAMES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}


def group(folder: Path, version: int, limit: str, used: int, file: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(NAMES[version], (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(STAT.format(file=file))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def test_a_container_sees_its_limit_at_the_root(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/\n")
    group(tmp_path / "fs", 2, "1000", 600, file=100)
    assert allowed_by_groups(tmp_path / "fs", own) == [500]


def test_the_limits_of_all_groups_around_a_process_count(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/user.slice/job.scope\n")
    group(tmp_path / "fs", 2, "max", 5000)
    group(tmp_path / "fs" / "user.slice", 2, "3000", 1000)
    group(tmp_path / "fs" / "user.slice" / "job.scope", 2, "900", 100)
    group(tmp_path / "fs" / "other.slice", 2, "1", 0)
    assert sorted(allowed_by_groups(tmp_path / "fs", own)) == [800, 2000]


def test_the_memory_controller_of_version_1_counts_too(tmp_path: Path, own: Path) -> None:
    own.write_text("5:cpu:/jobs/7\n4:memory:/jobs/7\n0::/\n")
    group(tmp_path / "fs" / "memory" / "jobs" / "7", 1, "700", 300)
    group(tmp_path / "fs" / "cpu" / "jobs" / "7", 1, "1", 0)
    assert allowed_by_groups(tmp_path / "fs", own) == [400]


@pytest.mark.parametrize("content", ["", "0::/gone\n", "4:memory:/gone\n"])
def test_without_a_limit_there_is_none(content: str, tmp_path: Path, own: Path) -> None:
    own.write_text(content)
    assert allowed_by_groups(tmp_path / "fs", own) == []
    assert allowed_by_groups(tmp_path / "fs", tmp_path / "no-such-file") == []


def test_what_is_free_here_is_no_more_than_any_limit_allows() -> None:
    assert 0 < free_memory() <= min([2**60, *allowed_by_groups()]) + 2**28


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux hands a peak on")
def test_the_peak_of_whoever_started_a_process_is_not_its_own() -> None:
    child = "from whet.engine.precision import peak_memory_mb; print(peak_memory_mb())"
    parent = (
        "import subprocess, sys; held = bytearray(900 * 2**20)\n"
        f"sys.stdout.write(subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True).stdout)"
    )
    ended = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 20 < float(ended.stdout) < 800


def test_the_peak_grows_with_what_is_held() -> None:
    before = peak_memory_mb()
    held = bytearray(b"x") * int((before + 64) * 2**20)
    assert peak_memory_mb() > before + 30
    del held
