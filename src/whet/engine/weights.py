"""The weights of a run: those that move, those that are kept, and how both come back from the run folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from whet.engine import checkpoint
from whet.engine.position import Best, Position
from whet.models.vocabulary import InUse


class Weights:
    """The parameters of a model by name, and the checkpoints of a run. Only the main process writes.

    `fresh` gives the weights that the model started with; `in_use` which rows of them train.
    """

    def __init__(
        self, model: nn.Module, in_use: InUse, folder: Path, place: PartialState, fresh: Callable[[], dict[str, Tensor]]
    ) -> None:
        self.parameters = dict(model.named_parameters())
        self.in_use, self.folder, self.place, self.fresh = in_use, folder, place, fresh
        self.moved: set[str] = set()

    def resume(self, note: Callable[[str], Any]) -> tuple[Position, dict[str, Tensor]]:
        """Take up the latest checkpoint that is whole; damaged ones are named and removed. Returns the position and
        the optimizer's state, both fresh where there is no checkpoint."""
        found = checkpoint.listed(self.folder)
        whole = [path for path in found if self.usable(path)]
        self.place.wait_for_everyone()  # so that all have seen the same before the main process removes anything
        for path in found:
            if path not in whole:
                used = next((f"{one.name} is used" for one in whole), "none is left, so the run begins again")
                note(f"checkpoint {path.name} is damaged; {used}")
                if self.place.is_main_process:
                    shutil.rmtree(path)
        self.place.wait_for_everyone()
        if not whole:
            return Position(), {}
        self.take(checkpoint.tensors(whole[0], "moved"))
        return Position.model_validate(checkpoint.facts(whole[0])), checkpoint.tensors(whole[0], "optimizer")

    def usable(self, path: Path) -> bool:
        """Is a checkpoint whole, and are the best weights that it refers to?"""
        return checkpoint.whole(path) and all(checkpoint.whole(self.folder / name) for name in bests_of(path))

    def open(self, names: frozenset[str]) -> dict[str, nn.Parameter]:
        """Let these parameters move and no others; returns them by name."""
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in names)
            parameter.grad = None
        self.moved |= names
        return {name: parameter for name, parameter in self.parameters.items() if name in names}

    def take(self, values: Mapping[str, Tensor]) -> None:
        """Set the weights; what moved since but is not among them goes back to where it started."""
        back = self.moved - values.keys()
        started = {name: value for name, value in self.fresh().items() if name in back} if back else {}
        with torch.no_grad():
            for name, value in {**started, **values}.items():
                self.parameters[name].copy_(self.in_use.of(name, value))
        self.moved |= values.keys()

    def now(self) -> dict[str, Tensor]:
        """All that has moved so far."""
        return {name: self.parameters[name].detach() for name in sorted(self.moved)}

    def keep(self, best: Best) -> None:
        """Store the weights of a validation."""
        if self.place.is_main_process:
            checkpoint.write(self.folder, best.folder, {"moved": self.now()}, best.model_dump())
        self.place.wait_for_everyone()

    def load(self, best: Best) -> None:
        """Take the weights of a validation that was kept."""
        self.take(checkpoint.tensors(self.folder / best.folder, "moved"))

    def mean(self, chosen: Sequence[Best]) -> None:
        """Take the mean of the weights of some validations."""
        total: dict[str, Tensor] = {}
        for one in chosen:
            self.load(one)
            total = {
                name: total[name] + value if name in total else value.clone() for name, value in self.now().items()
            }
        self.take({name: value / len(chosen) for name, value in total.items()})

    def save(self, at: Position, optimizer: Mapping[str, Tensor]) -> None:
        """Write a checkpoint, then remove what neither of the two latest refers to. Before the first step the weights
        are those that the run started with, and need no file."""
        if self.place.is_main_process:
            parts = {"moved": self.now() if at.done else {}, "optimizer": optimizer}
            checkpoint.write(self.folder, f"{at.done:06d}-{at.phase}", parts, at.model_dump())
            kept = checkpoint.listed(self.folder)[:2]
            wanted = {best for path in kept for best in bests_of(path)}
            checkpoint.prune(self.folder, {path.name for path in kept} | wanted)
        self.place.wait_for_everyone()


def bests_of(path: Path) -> set[str]:
    """The folders of the best weights that a checkpoint refers to."""
    at = Position.model_validate(checkpoint.facts(path))
    return {best.folder for best in (at.phase_best, *at.ranked) if best}
