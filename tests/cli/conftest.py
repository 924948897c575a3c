"""A command as a person types it, run in this process or as a real one, and what has to hold when it is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from whet.cli import main


@dataclass
class Ended:
    """How a command ended; `left` are the files that it left behind."""

    code: int
    out: str
    err: str
    left: set[Path]

    def refused(self, code: int, *says: str) -> None:
        """One message on standard error that says each of `says`, the exit code, and nothing else anywhere."""
        assert self.code == code, self.err
        assert "Traceback" not in self.err
        assert "mistake in whet itself" not in self.err
        assert [line.startswith("whet: ") for line in self.err.splitlines()].count(True) == 1, self.err
        message = self.err[self.err.index("whet: ") :]
        for part in says:
            assert part in message
        assert self.out == ""
        assert self.left == set()

    def succeeded(self) -> str:
        assert self.code == 0, self.err
        return self.out


Command = Callable[..., Ended]


def files_in(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def write_rows(path: Path, rows: Iterable[tuple[str, str]], header: str = "text,label") -> Path:
    path.write_text("".join(f"{line}\n" for line in [header, *(",".join(row) for row in rows)]), encoding="utf-8")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a person stands in: it holds rows.csv, with 30 rows of each of two labels."""
    write_rows(
        tmp_path / "rows.csv", [(f"my {label} number {n}", label) for n in range(30) for label in ("card", "fee")]
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("train", "rows.csv", ...)` as if typed in `here`, in this process."""

    def run(*words: Any, stdin: bytes = b"") -> Ended:
        before = files_in(here)
        monkeypatch.setattr(sys, "argv", ["whet", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out, err, files_in(here) - before)

    return run


@pytest.fixture
def process(here: Path) -> Command:
    """The same as a real process: `python -m whet ...`."""

    def run(*words: Any, stdin: bytes = b"") -> Ended:
        before = files_in(here)
        ended = subprocess.run([sys.executable, "-m", "whet", *map(str, words)], input=stdin, capture_output=True)
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode(), files_in(here) - before)

    return run


@pytest.fixture(scope="session")
def tiny(tiny_bert: Path) -> list[str]:
    """The words that make a command quick."""
    words = ["--model", str(tiny_bert), "--threads", "1", "--precision", "fp32", "--cache", "off"]
    return [*words, "--no-baselines", "--no-forgetting"]


@dataclass
class Finished:
    """A finished run, and all that its command printed on standard output."""

    path: Path
    out: str
    err: str

    @property
    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: list[str], rows_csv: Path) -> Finished:
    """A run of a real process with --json: a head on `tiny_bert`, three labels."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    words = ["train", rows_csv, *tiny, "--baselines", "--forgetting", "--epochs", "3", "--out", path, "--json"]
    ended = subprocess.run([sys.executable, "-m", "whet", *map(str, words)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return Finished(path, ended.stdout, ended.stderr)
