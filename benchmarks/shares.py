"""Where the time of full fine-tuning goes: shares of a hundred steps by torch's profiler, and what products alone take.

SST-2, the default model, batch 16. The first 40 steps are not counted: they find kernels and memory. `Python and the
rest` is what no operation of torch accounts for, the profiler's own work among it. Beside it the matrix products of a
mean batch alone, run back to back: no engine on this machine is quicker than that in bf16.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from cells import SHARED, Cells
from whet.config import resolve
from whet.runs.seeds import begin_all

FIRST, LAST = 40, 140
SST2 = SHARED / "data" / "sst2"
KINDS = {
    "matrix products": ("mm", "addmm", "bmm"),
    "casts and copies": ("copy_",),
    "activations, norms, softmax": (
        *("gelu", "gelu_backward", "native_layer_norm", "native_layer_norm_backward"),
        *("_softmax", "_softmax_backward_data"),
    ),
    "optimiser and clipping": ("_fused_adamw_", "linalg_vector_norm", "_foreach_add_", "_foreach_norm"),
    "dropout": ("ge", "__rshift__", "bitwise_xor", "bitwise_xor_", "bitwise_and_", "mul_"),
    "additions, scaling, sums": ("add", "add_", "mul", "div", "sum"),
    "filling with zeros": ("fill_", "zero_"),
}
PRODUCTS = ((384, 384, 4), (384, 1536, 1), (1536, 384, 1))
"""Of each of the six layers: inputs, outputs, how many."""


class Enough(Exception):
    """The steps that were wanted are done."""


def shares() -> dict[str, Any]:
    """Seconds of a step, and of each kind of operation in it."""
    clock: dict[str, float] = {}
    profiler = profile(activities=[ProfilerActivity.CPU])

    def watch(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == FIRST:
            clock["begun"] = time.perf_counter()
            profiler.start()
        if line.get("split") == "train" and line["step"] == LAST:
            profiler.stop()
            clock["seconds"] = time.perf_counter() - clock["begun"]
            raise Enough

    with tempfile.TemporaryDirectory() as folder:
        given = {"valid": str(SST2 / "dev.csv"), "test": "0", "epochs": "1", "baselines": "no", "cache": "off"}
        asked = resolve("fine_tune", {**given, "out": str(Path(folder) / "run")}, given_as="flag")
        with contextlib.suppress(Enough):
            begin_all(asked, str(SST2 / "train.csv"), watch)
    found = {event.key.removeprefix("aten::"): event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    kinds = {kind: sum(found.get(name, 0.0) for name in names) for kind, names in KINDS.items()}
    operations = sum(found.values())
    kinds["other operations"] = operations - sum(kinds.values())
    steps = LAST - FIRST
    kinds["Python and the rest"] = max(0.0, clock["seconds"] - operations)
    return {"step": clock["seconds"] / steps, "kinds": {kind: seconds / steps for kind, seconds in kinds.items()}}


def limit(tokens: int = 448, times: int = 40) -> dict[str, float]:
    """Seconds for all products of a step on so many padded tokens, forward and backward, and the rate they reach."""
    seconds = floating = 0.0
    for inputs, outputs, count in PRODUCTS:
        states, weight, back = (
            torch.randn(*size, dtype=torch.bfloat16)
            for size in ((tokens, inputs), (outputs, inputs), (tokens, outputs))
        )
        for _ in range(times):
            begun = time.perf_counter()
            torch.mm(states, weight.T)
            torch.mm(back, weight)
            torch.mm(back.T, states)
            seconds += 6 * count * (time.perf_counter() - begun) / times
        floating += 6 * count * 6 * tokens * inputs * outputs
    return {"tokens": tokens, "seconds": seconds, "gflops_per_second": floating / seconds / 1e9}


def main() -> None:
    cells = Cells("shares")
    for repetition in range(3):
        cells.measure(f"step/{repetition}", shares)
        cells.measure(f"limit/{repetition}", limit)
    steps = sorted((cells.kept[f"step/{n}"] for n in range(3)), key=lambda cell: cell["step"])
    limits = sorted((cells.kept[f"limit/{n}"] for n in range(3)), key=lambda cell: cell["seconds"])
    step, alone = steps[1], limits[1]
    print("\n| | ms of a step | share |\n| --- | --- | --- |")
    for kind, seconds in sorted(step["kinds"].items(), key=lambda item: -item[1]):
        print(f"| {kind} | {1000 * seconds:.1f} | {seconds / step['step']:.0%} |")
    print(f"| in all, under the profiler | {1000 * step['step']:.1f} | |")
    print(
        f"| products of {alone['tokens']} tokens alone, at {alone['gflops_per_second']:.0f} GFLOP/s | "
        f"{1000 * alone['seconds']:.1f} | |"
    )


if __name__ == "__main__":
    main()
