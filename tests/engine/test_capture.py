"""States below a cut: the same bits whoever computes them and wherever they are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from whet.data.store import TokenStore
from whet.engine.capture import States
from whet.engine.forward import Forward
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.precision import processes
from whet.models.cut import find_cut

JobOf = Callable[..., Job]


def some_rows(store: TokenStore, rows: list[int]) -> TokenStore:
    """A store of some rows of another."""
    parts = [store.ids[store.starts[row] : store.starts[row + 1]] for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return TokenStore(np.concatenate(parts), starts, store.pad, store.max_length, 0, 0)


def captured(job: Job, group: str, store: TokenStore, budget: int, precision: str = "fp32") -> States:
    forward = Forward(job.built.model.train(), processes(), precision, budget)
    cut = find_cut(job.built.model, job.anatomy, group, store.batch(np.arange(3)))
    assert cut is not None
    (states,) = forward.passes.states([cut], store, lambda _, shape, dtype: torch.empty(shape, dtype=dtype))
    return states


def of_row(states: States, row: int) -> Tensor:
    return states.flat[states.starts[row] : states.starts[row + 1]] if states.sequence else states.flat[row]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("group", ["block 1", "block 3", "head"])
def test_a_rows_state_is_a_function_of_the_row_alone(group: str, precision: str, job_of: JobOf) -> None:
    """The same bits with other rows beside it, in another order, in batches of other sizes."""
    job = job_of()
    store = job.train.store
    whole = captured(job, group, store, 4096, precision)
    order = [int(row) for row in np.random.default_rng(1).permutation(len(store))[: len(store) // 2]]
    for budget in (4096, 700):
        part = captured(job, group, some_rows(store, order), budget, precision)
        for place, row in enumerate(order):
            assert torch.equal(of_row(part, place), of_row(whole, row)), (budget, row)
    assert not torch.equal(of_row(whole, 0)[0], of_row(whole, 1)[0])


@pytest.mark.parametrize("group", ["block 2", "head"])
def test_stored_states_are_handed_out_padded_with_zeros(group: str, job_of: JobOf) -> None:
    job = job_of()
    states = captured(job, group, job.train.store, 4096)
    rows = np.array([5, 0, 11, 3])
    batch = states.batch(rows, torch.device("cpu"))
    assert len(batch) == 4
    for place, row in enumerate(rows):
        own = of_row(states, row)
        if states.sequence:
            assert torch.equal(batch[place, : len(own)], own)
            assert not batch[place, len(own) :].any()
            assert batch.shape[1] % 8 == 0
        else:
            assert torch.equal(batch[place], own)


def trained(job: Job) -> tuple[dict[str, Tensor], list[dict[str, Any]], list[dict[str, Any]]]:
    """Weights, the lines of progress.jsonl without machine figures, and what was captured."""
    outcome = Loop(job).run()
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    machine = ("seconds", "rows_per_second", "memory_mb")
    kept = [{name: value for name, value in line.items() if name not in machine} for line in lines]
    weights = {name: value.detach().clone() for name, value in job.built.model.named_parameters()}
    return weights, kept, outcome.captures


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


CACHED = [
    {"verb": "train", "steps": 12},
    {"verb": "train", "head": "native", "steps": 6, "precision": "bf16"},
    {"strategy": "lift(blocks=2)", "steps": 3},
]


@pytest.mark.parametrize("options", CACHED, ids=str)
def test_the_cache_changes_no_bit(options: dict[str, Any], job_of: JobOf, tmp_path: Path) -> None:
    """Off, cold, warm, and with every kept file torn or altered."""
    off = trained(job_of(cache="off", **options))
    kept = {"cache": str(tmp_path / "cache"), **options}
    cold, warm = trained(job_of(**kept)), trained(job_of(**kept))
    files = sorted((tmp_path / "cache").rglob("*.states"))
    assert files
    assert {fact["from"] for fact in warm[2]} & {"the cache"}
    assert not {fact["from"] for fact in cold[2]} & {"the cache"}
    for number, file in enumerate(files):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content if number % 2 else content[:-8])
    torn = trained(job_of(**kept))
    assert "the cache" not in {fact["from"] for fact in torn[2]}
    for other in (cold, warm, torn):
        assert other[1] == off[1]
        assert same(other[0], off[0])


def test_nothing_is_left_of_what_did_not_fit_in_memory(job_of: JobOf) -> None:
    job = job_of(strategy="lift", steps=3)
    usual = trained(job)
    small = job_of(strategy="lift", steps=3)
    loop = Loop(small)
    loop.below.captures.budget = 0
    outcome = loop.run()
    assert all(fact["from"] in ("this pass", "an earlier pass") for fact in outcome.captures)
    weights = {name: value.detach().clone() for name, value in small.built.model.named_parameters()}
    assert same(weights, usual[0])
    assert [path.name for path in small.folder.iterdir() if path.is_dir()] == ["checkpoints"]


def test_one_pass_feeds_all_phases_that_need_no_later_one(job_of: JobOf) -> None:
    """Top-down the states of every phase are pristine: the pretrained model is run once over the rows."""
    facts = trained(job_of(strategy="lift", steps=2))[2]
    assert [fact["before"] for fact in facts] == ["head", "block 3", "block 2", "block 1", "block 0"]
    assert [fact["from"] for fact in facts] == ["this pass", *["an earlier pass"] * 4]
    facts = trained(job_of(strategy="lift(order='bottom-up')", steps=2))[2]
    assert [fact["before"] for fact in facts] == ["head", "block 0", "block 1", "block 2", "block 3"]
    assert [fact["from"] for fact in facts] == ["this pass", "an earlier pass", *["this pass"] * 3]


def test_a_cut_run_is_the_uncut_one_up_to_rounding(job_of: JobOf, tmp_path: Path) -> None:
    """Training above a cut against the whole model with the same parameters moving (a match that cannot be cut)."""
    from whet.plan.anatomy import Group

    cut_job = job_of(strategy="top(2)", steps=10)
    whole_job = job_of(strategy="top(2)", steps=10)
    # An anatomy without an entry for the block gives the engine nothing to cut at.
    groups = tuple(
        Group(name=g.name, kind=g.kind, entry="" if g.name == "block 2" else g.entry, parameters=g.parameters)
        for g in whole_job.anatomy.groups
    )
    import dataclasses

    whole_job = dataclasses.replace(whole_job, anatomy=whole_job.anatomy.model_copy(update={"groups": groups}))
    cut, whole = trained(cut_job), trained(whole_job)
    assert [fact["from"] for fact in cut[2]] == ["this pass"]
    assert whole[2][0]["from"].startswith("not cut")
    losses = [[line["loss"] for line in lines if line["split"] == "train"] for _, lines, _ in (cut, whole)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"pooling": "mean"}, {"pooling": "cls"}),
        ({"head": "native"}, {"pooling": "mean"}),
        ({"strategy": "probe"}, {"strategy": "probe(depth=2)"}),
        ({"precision": "fp32"}, {"precision": "bf16"}),
        ({"max_length": 64}, {"max_length": 16}),
    ],
    ids=str,
)
def test_what_another_run_kept_is_used_only_where_it_fits(
    first: dict[str, Any], second: dict[str, Any], rows_csv: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """Two whole runs share a cache; the second one's result is the one without a cache."""
    import whet

    fixed = {"model": str(tiny_bert), "steps": 3, "threads": 1, "precision": "fp32", "quiet": True}
    shared = str(tmp_path / "cache")
    whet.train(rows_csv, out=str(tmp_path / "first"), cache=shared, **{**fixed, **first})
    texts = ["my card was swallowed", "where is the parcel I ordered?", "I need to borrow some money for a car"]
    found = []
    for name, cache in (("with", shared), ("without", "off")):
        run = whet.train(rows_csv, out=str(tmp_path / name), cache=cache, **{**fixed, **second})
        found.append((run.probabilities(texts), run.metrics["valid"], run.metrics["test"]))
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]
