"""Schedules: the factor on the base rate, as a pure function of where a phase stands."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from whet.plan.base import Value


class Warmup(Value):
    """The rising part at the start of a phase: a share of it (0 to 1), or a number of steps."""

    share: float = Field(0.0, ge=0, lt=1)
    steps: int | None = Field(None, ge=0)

    def share_of(self, total: int) -> float:
        """The warm-up as a share of a phase of `total` steps, 0 to 1."""
        return self.share if self.steps is None else min(1.0, self.steps / max(total, 1))


def _warmup(value: object) -> object:
    """A share as a number (`0.06`), or a number of steps as a text (`"100 steps"`)."""
    if isinstance(value, str) and "step" in value:
        if not (found := re.fullmatch(r"\s*(\d+)\s*steps?\s*", value)):
            raise ValueError(f"{value!r} is no length; write '100 steps'")
        return Warmup(steps=int(found[1]))
    return Warmup(share=float(value)) if isinstance(value, str | float | int) else value


AnyWarmup = Annotated[Warmup, BeforeValidator(_warmup)]


class Schedule(Value):
    """The factor on the base rate over a phase."""

    warmup: AnyWarmup = Warmup()

    def factor(self, step: int, total: int) -> float:
        """The factor for step `step` (0 to `total` - 1) of a phase of `total` steps.

        The first step of a warm-up already moves, and the last step of a falling schedule still does.
        """
        warm = self.warmup.share_of(total) * total
        if step < warm:
            return (step + 1) / (math.ceil(warm) + 1)
        return self.after((step - warm) / max(total - warm, 1))

    @abstractmethod
    def after(self, progress: float) -> float:
        """The factor when `progress` (0 to 1) of what follows the warm-up is done."""


class Linear(Schedule):
    """Falls evenly to zero: the usual choice for fine-tuning."""

    kind: Literal["linear"] = "linear"

    def after(self, progress: float) -> float:
        return 1 - progress


class Cosine(Schedule):
    """Falls along half a cosine (Loshchilov and Hutter 2017, one cycle)."""

    kind: Literal["cosine"] = "cosine"

    def after(self, progress: float) -> float:
        return (1 + math.cos(math.pi * progress)) / 2


class Constant(Schedule):
    """Stays at the base rate."""

    kind: Literal["constant"] = "constant"

    def after(self, progress: float) -> float:
        return 1.0


class SlantedTriangular(Schedule):
    """Rises over `cut` of the phase, then falls to 1/`ratio` (Howard and Ruder 2018, ULMFiT: 0.1 and 32)."""

    kind: Literal["slanted"] = "slanted"
    cut: float = Field(0.1, gt=0, lt=1)
    ratio: float = Field(32.0, gt=1)

    def after(self, progress: float) -> float:
        share = progress / self.cut if progress < self.cut else 1 - (progress - self.cut) / (1 - self.cut)
        return (1 + share * (self.ratio - 1)) / self.ratio


OneSchedule = Linear | Cosine | Constant | SlantedTriangular
SCHEDULES: dict[str, type[OneSchedule]] = {
    "linear": Linear,
    "cosine": Cosine,
    "constant": Constant,
    "slanted": SlantedTriangular,
}
