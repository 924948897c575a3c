"""The numbers that products are computed in, and the processor they are computed on."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

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
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def free_memory() -> int:
    """Bytes of memory that this process can still take, a container's limit counted."""
    free = int(psutil.virtual_memory().available)
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit:
            allowed = limit.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as current:
            used = int(current.read())
    except (OSError, ValueError):
        return free
    return free if allowed == "max" else max(0, min(free, int(allowed) - used))


def free_device_memory(device: torch.device) -> int:
    """Bytes free on a GPU; 0 for a processor, whose memory is not its own."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
