"""A model's outputs for rows, computed whole or from a boundary below which nothing moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn

from whet.data.store import Ragged, Targets, TokenStore
from whet.engine.batches import by_width
from whet.engine.capture import Pass, States
from whet.engine.precision import products
from whet.errors import TrainingError
from whet.models.cut import Cut, find_cut, in_eval_mode
from whet.models.heads import outputs_of
from whet.plan.anatomy import Anatomy


@dataclass
class Boundary:
    """A cut, and the states that arrive at it for the rows of each store (by the store's identity). `served` counts
    the rows that were computed from it."""

    cut: Cut
    states: dict[int, States]
    served: int = 0

    @property
    def padded(self) -> bool:
        return any(states.sequence for states in self.states.values())


class Forward:
    """Runs a model on rows of a store. With a boundary, only what lies above it is computed."""

    def __init__(
        self, model: nn.Module, place: PartialState, precision: str, token_budget: int, compiled: bool = False
    ) -> None:
        self.model = model
        self.trained: Any = torch.compile(model, dynamic=True) if compiled else model
        self.place = place
        self.device: torch.device = place.device
        self.precision = precision
        self.token_budget = token_budget
        self.boundary: Boundary | None = None
        self.cuts: dict[str, Cut | None] = {}
        self.model.to(self.device)

    def __call__(self, store: TokenStore, rows: np.ndarray) -> Tensor:
        """Outputs for some rows, fp32, rows first."""
        with products(self.precision, self.device):
            if self.boundary is None:
                inputs = self.inputs(store, rows)
                return self.whole(inputs) if torch.is_grad_enabled() else outputs_of(self.model, inputs)
            cut = self.boundary.cut
            self.boundary.served += len(rows)
            state = self.boundary.states[id(store)].batch(rows, self.device)
            return cut.above({} if cut.direct else self.inputs(store, rows), state)

    def whole(self, inputs: dict[str, Tensor]) -> Tensor:
        """The outputs in training. Raises `TrainingError` where the model cannot be compiled."""
        if self.trained is self.model:
            return outputs_of(self.model, inputs)
        try:
            return outputs_of(self.trained, inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            why = str(error).strip().partition("\n")[0]
            raise TrainingError(f"--compile does not work here: {why}. Leave it out, or mend that") from error

    def inputs(self, store: TokenStore, rows: np.ndarray) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in store.batch(rows).items()}

    def find_cut(self, group: str, anatomy: Anatomy, store: TokenStore) -> Cut | None:
        """The cut before a group, tried once on real rows; None where the model has to run whole."""
        if group not in self.cuts:
            trial = self.inputs(store, np.arange(min(4, len(store))))
            self.cuts[group] = find_cut(self.model, anatomy, group, trial)
        return self.cuts[group]

    @property
    def passes(self) -> Pass:
        return Pass(self.model, self.token_budget, self.precision, self.device)

    def all(self, store: TokenStore) -> Targets:
        """Outputs for all rows in eval mode, in the rows' order, fp32: rows x outputs, or where a head gives some for
        each token, those of each row's own tokens. The work is shared out over processes."""
        batches = by_width(store.lengths, self.token_budget)[self.place.process_index :: self.place.num_processes]
        with torch.inference_mode(), in_eval_mode(self.model):
            own = [(rows, self(store, rows).cpu().numpy()) for rows in batches]
        found = gather_object(own) if self.place.num_processes > 1 else own
        if found and found[0][1].ndim == 3:
            each = {int(row): value for rows, values in found for row, value in zip(rows, values, strict=True)}
            return Ragged.of([each[row][: store.lengths[row]] for row in range(len(store))])
        made = np.empty((len(store), found[0][1].shape[1] if found else 0), dtype=np.float32)
        for rows, values in found:
            made[rows] = values
        return made


def set_modes(model: nn.Module, inputs: dict[str, Tensor], entry: str) -> None:
    """Training mode where something moves, eval mode elsewhere, so that what is frozen is deterministic.

    A module with weights trains if one of them moves. One without (dropout) trains if its nearest owner of weights
    does and it is not called before `entry`, the module that the lowest moving group begins with ("" for the model
    itself): found by one pass over `inputs`. Batch-norm always uses its stored statistics.
    """
    model.eval()
    calls: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: calls.setdefault(name))
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        outputs_of(model, inputs)
    for handle in handles:
        handle.remove()
    order = list(calls)
    below = set(order[: order.index(entry)])
    for name, module in model.named_modules():
        owner = name
        while owner and not any(True for _ in model.get_submodule(owner).parameters()):
            owner = owner.rpartition(".")[0]
        moves = any(parameter.requires_grad for parameter in model.get_submodule(owner).parameters())
        frozen = isinstance(module, nn.modules.batchnorm._BatchNorm) or (owner != name and name in below)
        module.training = moves and not frozen
