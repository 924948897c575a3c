"""The numbers that products are computed in, and the processor they are computed on."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from whet.errors import SettingsError

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(asked: str, device: torch.device) -> str:
    """`bf16`, `fp16` or `fp32`: what was asked, or for `auto` bf16 where it is multiplied fast, fp16 on a GPU without
    it. Raises `SettingsError` for fp16 on a processor."""
    if asked == "fp16" and device.type == "cpu":
        raise SettingsError(
            "precision = fp16 is for a GPU; a processor has bf16 or fp32 (auto takes what is fast here)"
        )
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which matrix products run: bf16 or fp16 with fp32 weights, norms and sums, or fp32 throughout."""
    half = HALF.get(precision)
    return nullcontext() if half is None else torch.autocast(device.type, dtype=half)


def usable_threads() -> int:
    """OMP_NUM_THREADS where it is set, else the physical cores that this process may use: its affinity and the
    container's share of processor time counted."""
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or allowed
    return max(1, min(allowed, physical, _quota() or allowed))


def _quota() -> int | None:
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as handle:
            quota, period = handle.read().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))


def processes() -> PartialState:
    """This process's place among those started together (by accelerate launch or torchrun), and its device.

    Without `cpu`, accelerate takes processes on a machine without an accelerator for strangers to one another.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def peak_memory_mb() -> float:
    """The most resident memory that this process has held, in MiB."""
    peak = _peak_of_all()
    return peak if peak > _inherited() else _own_peak() or peak


def _peak_of_all() -> float:
    """As the system counts: on Linux with what held this process's number before, up to whoever started it."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


@cache
def _inherited() -> float:
    """The part of that which is not this process's own, as long as that is more; found at the first call."""
    peak = _peak_of_all()
    return peak if 0 < _own_peak() < peak else 0.0


def _own_peak() -> float:
    """This process's alone, where the system tells (Linux), which takes longer to read; else 0."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0.0


def free_memory() -> int:
    """Bytes of memory that this process can still take, the limits of its control groups counted."""
    return max(0, min([int(psutil.virtual_memory().available), *allowed_by_groups()]))


def allowed_by_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes that each control group around this process, a container's among them, still allows (cgroups(7): version 2,
    or the memory controller of version 1). Pages of files, which the system takes back, are not counted as used."""
    try:
        lines = [line.strip().split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        lines = [["0", "", "/"]]
    found = []
    for _, controllers, path in lines:
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        inner = top / path.lstrip("/")
        for folder in [place for place in (inner, *inner.parents) if place == top or top in place.parents]:
            try:
                limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in names)
                stat = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
                found.append(int(limit) - int(used) + int(stat.get("inactive_file", 0)))
            except (OSError, ValueError):
                continue  # no limit here ("max"), or no such group
    return found


def free_device_memory(device: torch.device) -> int:
    """Bytes free on a GPU; 0 for a processor, whose memory is not its own."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
