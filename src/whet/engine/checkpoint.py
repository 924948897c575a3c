"""Checkpoints: folders that are whole or not there.

A folder is written under a temporary name, every file flushed to the disk, its manifest (SHA-256 of each file
and of itself) last, then renamed, then the parent flushed; only then are older ones removed. Safetensors and
JSON only: reading one never runs code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from whet.errors import RunError

MANIFEST = "manifest.json"


def write(folder: Path, name: str, tensors: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> Path:
    """Write `folder/name` whole: one safetensors file per entry of `tensors`, and `facts.json`."""
    temporary, final = folder / f".{name}.{os.getpid()}", folder / name
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for part, values in tensors.items():
        save_file(
            {key: value.detach().contiguous() for key, value in values.items()}, temporary / f"{part}.safetensors"
        )
    (temporary / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    sums = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
    own = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
    (temporary / MANIFEST).write_text(json.dumps({"files": sums, "sha256": own}), encoding="utf-8")
    for file in temporary.iterdir():
        flush(file)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    flush(folder)
    return final


def whole(path: Path) -> bool:
    """Is every file of a checkpoint there and as its manifest says?"""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        sums = manifest["files"]
        own = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
        return manifest["sha256"] == own and all(_sha256(path / name) == value for name, value in sums.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def facts(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "facts.json").read_text(encoding="utf-8"))
    return content


def tensors(path: Path, part: str) -> dict[str, Tensor]:
    return load_file(path / f"{part}.safetensors")


def listed(folder: Path) -> list[Path]:
    """The checkpoints of a run, the latest first. Their names are `<steps done>-<phase>`."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.glob("[0-9]*-[0-9]*") if path.is_dir()]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split("-")], reverse=True)


def prune(folder: Path, keep: set[str]) -> None:
    """Remove all but the named checkpoints, and what killed processes left half-written."""
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def flush(path: Path) -> None:
    """Ask the system to put a file or folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        raise RunError(f"cannot flush {path} to the disk: {error.strerror}") from error
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
