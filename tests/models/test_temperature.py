"""A temperature goes into the last layer, whichever model ends in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from whet.errors import ModelError
from whet.models.heads import outputs_of
from whet.models.temperature import divide_outputs


@pytest.mark.parametrize("options", [{}, {"head": "native"}, {"head": "mlp(8)"}])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_outputs_are_divided_by_it(options: dict[str, Any], temperature: float, job_of: Callable[..., Any]) -> None:
    job = job_of(**options)
    model, inputs = job.built.model, job.train.store.batch(np.arange(4))
    with torch.no_grad():
        before = outputs_of(model, inputs)
        divide_outputs(model, 3, temperature)
        torch.testing.assert_close(outputs_of(model, inputs), before / temperature)


def test_a_model_that_ends_in_something_else_is_refused() -> None:
    with pytest.raises(ModelError, match="ends in a linear layer"):
        divide_outputs(nn.Sequential(nn.Linear(3, 5), nn.Conv1d(5, 2, 1)), 2, 2.0)
