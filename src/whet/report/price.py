"""The price of a run in words: one line for a phase, one for all, and what would fit where it does not."""

from __future__ import annotations

from whet.plan.price import Memory, PhasePrice, Price


def duration(seconds: float) -> str:
    """12 s, 3.4 min or 5.6 h."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def of_phase(phase: PhasePrice) -> str:
    """Time by part and memory of a phase."""
    memory = f"{phase.memory.total:,.0f} MB of memory"
    if phase.seconds is None:
        return memory
    spent = phase.seconds
    named = {"frozen layers": spent.capture, "steps": spent.steps}
    named |= {"validations": spent.validations, "checkpoints": spent.checkpoints}
    shown = [f"{name} {duration(seconds)}" for name, seconds in named.items() if seconds >= 0.05 * spent.total]
    return f"{duration(spent.total)} ({', '.join(shown)}), {memory}"


def in_all(price: Price) -> str:
    """Time, memory and disk of the run."""
    time = f"time unknown ({price.timed})"
    if price.seconds is not None:
        time = f"about {duration(price.seconds)} of training and test ({price.timed})"
    need = f"{price.peak_mb:,.0f} MB of memory at most, {price.free_mb + price.held_mb:,.0f} MB there"
    return f"{time}; {need}; {price.disk.total:,.0f} MB of disk"


def by_part(memory: Memory) -> str:
    """Memory by part, those of no size left out."""
    parts = memory.model_dump(exclude={"total"})
    return ", ".join(f"{name} {size:,.0f}" for name, size in parts.items() if size >= 1)


def too_much(price: Price) -> list[str]:
    """What is said where the memory does not suffice: by how much, for what, and what would fit. Else nothing."""
    if price.fits:
        return []
    there, needed = price.free_mb + price.held_mb, price.dearest.memory
    lines = [
        f"this run needs about {needed.total:,.0f} MB of memory, and {there:,.0f} MB are there; it may be stopped "
        f"by the system. In MB: {by_part(needed)}",
        "what would fit:"
        if price.fitting
        else "nothing that was tried would fit; take a smaller model or shorter texts",
    ]
    return [*lines, *(f"  {one.options:36} {one.memory_mb:,.0f} MB" for one in price.fitting)]
