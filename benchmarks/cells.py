"""Benchmark results as cells: each measured once, kept in a JSON file, measured again only when asked.

A benchmark is a set of named cells. A cell that is in the file is not run again, so a benchmark that
was stopped goes on where it was, and what is missing is shown as missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SHARED = Path(os.environ.get("WHET_SHARED", Path(__file__).resolve().parents[2] / "shared"))


class Cells:
    """The cells of one benchmark, kept in `results/<name>.json` after every measurement."""

    def __init__(self, name: str) -> None:
        self.path = RESULTS / f"{name}.json"
        self.kept = self.stored()

    def stored(self) -> dict[str, dict]:
        return json.loads(self.path.read_text())["cells"] if self.path.exists() else {}

    def measure(self, key: str, run: Callable[[], dict]) -> dict:
        """The cell's figures: those kept, else those of a run made now."""
        self.kept = {**self.stored(), **self.kept}
        if key not in self.kept:
            print(f"  {key} ...", end=" ", flush=True)
            self.kept[key] = run()
            self.write()
            print("done", flush=True)
        return self.kept[key]

    def write(self) -> None:
        """Write all cells, those that another process has measured meanwhile among them."""
        RESULTS.mkdir(exist_ok=True)
        self.kept = {**self.stored(), **self.kept}
        content = {"machine": machine(), "cells": dict(sorted(self.kept.items()))}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(self.path)


def run_json(command: list[str], **environment: str) -> dict:
    """Run a command and return the last JSON object that it prints on standard output."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine() -> dict:
    """What the figures were measured on: processor, its matrix instructions, cores, memory."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in facts.splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in lines.items()}
    flags = set(found.get("flags", "").split())
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
    return {
        "processor": found.get("model name", "unknown"),
        "cores": os.cpu_count(),
        "flags": [flag for flag in wanted if flag in flags],
    }
