"""whet: sharpen a pretrained model on your task."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from whet import errors
from whet.plan.adapting import lora, prefix, prompt
from whet.plan.replaying import gradual_fine_tuning, with_replay
from whet.plan.retaining import interpolate, kl_to_base, pull_to_base
from whet.plan.strategies import (
    average,
    bitfit,
    discriminative,
    freeze,
    full,
    gradual_unfreezing,
    lift,
    lp_ft,
    phases,
    probe,
    then,
    top,
)
from whet.plan.strategy import Strategy, strategy

if TYPE_CHECKING:
    from whet.runs.probes import Probes
    from whet.runs.result import Run, load
    from whet.runs.verbs import explain, fine_tune, probes, resume, train

__all__ = [
    "Probes",
    "Run",
    "Strategy",
    "average",
    "bitfit",
    "discriminative",
    "errors",
    "explain",
    "fine_tune",
    "freeze",
    "full",
    "gradual_fine_tuning",
    "gradual_unfreezing",
    "interpolate",
    "kl_to_base",
    "lift",
    "load",
    "lora",
    "lp_ft",
    "phases",
    "prefix",
    "probe",
    "probes",
    "prompt",
    "pull_to_base",
    "resume",
    "strategy",
    "then",
    "top",
    "train",
    "with_replay",
]

_LATER = {
    "Probes": "whet.runs.probes",
    "Run": "whet.runs.result",
    "explain": "whet.runs.verbs",
    "fine_tune": "whet.runs.verbs",
    "load": "whet.runs.result",
    "probes": "whet.runs.verbs",
    "resume": "whet.runs.verbs",
    "train": "whet.runs.verbs",
}
"""What needs torch is imported when it is first used, so that `import whet` stays quick."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'whet' has no attribute {name!r}; it has: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
