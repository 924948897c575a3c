"""The price of a run: said by explain and before a run, kept beside what came, and what would fit where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import whet
from whet.config import resolve
from whet.plan.anatomy import Anatomy
from whet.plan.edits import NewHead
from whet.plan.price import MEBI, Machine, Price
from whet.plan.strategy import STRATEGIES, strategy
from whet.plan.values import Defaults, Plan
from whet.report.facts import reckoned
from whet.report.price import in_all, too_much
from whet.report.run_files import read_run
from whet.report.terminal import Screen, explanation
from whet.runs.assemble import assemble
from whet.runs.estimate import Estimator
from whet.runs.explained import estimator_of
from whet.runs.fitting import with_fitting
from whet.runs.rows import read_rows

Options = dict[str, Any]


@pytest.fixture
def options(tiny_bert: Path, tmp_path: Path) -> Options:
    return {"model": str(tiny_bert), "threads": 1, "cache": str(tmp_path / "cache"), "epochs": 2}


@pytest.fixture
def estimator(options: Options, rows_csv: Path) -> Callable[..., Estimator]:
    """Makes an estimator for a run; with `free`, where a process that holds nothing has so many MiB."""

    def make(free: float | None = None, **more: Any) -> Estimator:
        resolved = resolve("fine_tune", {**options, "precision": "fp32", **more})
        dataset = read_rows(resolved.settings, rows_csv)
        made = estimator_of(assemble(resolved, dataset), dataset, resolved.settings)
        if free is not None:
            made.memory = Machine(resident=0, highest=0, free=int(free * MEBI))
        return made

    return make


def kept(options: Options) -> list[Path]:
    return list((Path(options["cache"]) / "states").glob("*.timings.json"))


def timings(options: Options) -> dict[str, Any]:
    """The timed passes that are kept, by kind; of a run that timed none only what memory hangs on is kept."""
    (path,) = kept(options)
    found: dict[str, Any] = json.loads(path.read_text())["passes"]
    return found


def test_explain_gives_minutes_memory_and_disk_for_each_phase_and_in_all(options: Options, rows_csv: Path) -> None:
    found = whet.explain(rows_csv, strategy="lift", **options)
    price = found.price
    assert price
    assert [phase.name for phase in price.phases] == [phase.name for phase in found.phases]
    assert price.seconds
    assert price.test_seconds
    spent = [phase.seconds for phase in price.phases if phase.seconds]
    assert price.seconds == pytest.approx(sum(one.total for one in spent) + price.test_seconds, abs=0.01)
    assert spent[0].capture > 0
    assert all(one.capture == 0 for one in spent[1:]), "one pass feeds all phases"
    assert all(one.steps > 0 for one in spent)
    assert price.peak_mb >= max(phase.memory.total for phase in price.phases) - 0.1
    assert price.fits
    assert price.disk.model > 0
    lines = explanation(found).splitlines()
    assert sum(line.startswith("  price  ") for line in lines) == len(price.phases)
    (line,) = [line for line in lines if line.startswith("in all")]
    assert line == f"in all   {in_all(price)}"
    assert json.loads(found.model_dump_json())["price"]["seconds"] == price.seconds


def test_a_calibration_is_kept_and_serves_other_plans(options: Options, rows_csv: Path) -> None:
    first = whet.explain(rows_csv, **options).price
    (path,) = kept(options)
    begun = path.stat().st_mtime_ns
    again, other = (whet.explain(rows_csv, strategy=name, **options).price for name in ("full", "bitfit"))
    assert first
    assert again
    assert other
    assert first.timed.startswith("timed just now, in ")
    assert (again.timed, other.timed) == ("timed before on this machine",) * 2
    assert path.stat().st_mtime_ns == begun
    assert again.seconds == pytest.approx(first.seconds)


def test_without_a_cache_explain_times_and_keeps_nothing(options: Options, rows_csv: Path) -> None:
    found = whet.explain(rows_csv, **{**options, "cache": "off"}).price
    assert found
    assert found.seconds
    assert kept(options) == []


def test_a_run_keeps_the_estimate_beside_what_came(options: Options, rows_csv: Path, tmp_path: Path) -> None:
    """A run of seconds does not time the machine; where that was done before, it says how long it will take."""
    short = whet.fine_tune(rows_csv, out=tmp_path / "short", quiet=True, baselines=False, **options).metrics
    assert short["estimate"]["seconds"] is None
    assert "too short" in short["estimate"]["timed"]
    assert timings(options) == {}
    said = whet.explain(rows_csv, **options).price
    assert said
    timed = whet.fine_tune(rows_csv, out=tmp_path / "timed", quiet=True, baselines=False, **options).metrics
    assert timed["estimate"]["seconds"] == pytest.approx(said.seconds, rel=0.01)
    assert [phase["name"] for phase in timed["estimate"]["phases"]] == [phase["phase"] for phase in timed["phases"]]
    assert timed["estimate"]["phases"][0]["memory"]["gradients"] > 0
    page = (tmp_path / "timed" / "report.html").read_text(encoding="utf-8")
    assert "Estimated before the run, and what came" in page


def test_states_that_a_run_left_make_the_next_one_cheaper(options: Options, rows_csv: Path, tmp_path: Path) -> None:
    before = whet.explain(rows_csv, verb="train", **options).price
    whet.train(rows_csv, out=tmp_path / "run", quiet=True, baselines=False, **options)
    after = whet.explain(rows_csv, verb="train", **options).price
    assert before
    assert after
    assert before.phases[0].seconds
    assert after.phases[0].seconds
    assert before.phases[0].seconds.capture > 0
    assert after.phases[0].seconds.capture == 0


def test_a_long_run_times_the_machine_before_it_begins(
    options: Options, estimator: Callable[..., Estimator], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = estimator()
    assert made.price(always=False).seconds is None
    monkeypatch.setattr("whet.runs.estimate.WORTH", 0.0)
    assert made.price(always=False).timed.startswith("timed just now")
    assert timings(options).keys() == {"moving", "passing", "still", "exact"}


@pytest.fixture
def narrow_head() -> Iterator[str]:
    """A registered strategy that changes the model otherwise than the others: a new head of two layers, and nothing
    else moves."""

    @strategy
    def narrow_head(anatomy: Anatomy, defaults: Defaults) -> Plan:
        """A head of two layers on the frozen body."""
        plan = STRATEGIES["probe"]()(anatomy, defaults)
        return plan.model_copy(update={"edits": (NewHead(hidden=(8,)),)})

    yield "narrow_head"
    del STRATEGIES["narrow_head"]


def priced(made: Estimator, verb: str = "fine_tune") -> Price:
    return with_fitting(made.price(always=True), made, verb)


def test_where_memory_lacks_what_would_fit_is_named_with_figures(
    estimator: Callable[..., Estimator], narrow_head: str
) -> None:
    whole = priced(estimator())
    assert whole.fits
    assert whole.fitting == ()
    assert too_much(whole) == []
    need = whole.phases[0].memory.total - whole.phases[0].memory.process
    found = priced(estimator(free=need - 0.3))
    assert not found.fits
    assert found.seconds is None, "what does not fit is not tried"
    named = {one.options: one.memory_mb for one in found.fitting}
    assert all(size <= found.free_mb + found.held_mb for size in named.values())
    assert {"--gradient-checkpointing", '--strategy "probe"', f'--strategy "{narrow_head}"'} <= named.keys()
    assert any(option.startswith("--token-budget ") for option in named)
    assert sum(option.startswith('--strategy "top(') for option in named) == 1
    assert '--strategy "full"' not in named
    said = "\n".join(too_much(found))
    for option, size in named.items():
        assert option in said
        assert f"{size:,.0f} MB" in said


def test_a_head_is_not_told_to_tune_the_body(estimator: Callable[..., Estimator]) -> None:
    assert not any("--strategy" in one.options for one in priced(estimator(free=0, strategy="probe"), "train").fitting)


def test_where_nothing_fits_that_is_said(estimator: Callable[..., Estimator]) -> None:
    found = priced(estimator(free=0))
    assert found.fitting == ()
    assert "nothing that was tried would fit" in "\n".join(too_much(found))


def test_a_run_says_what_it_costs_before_it_begins(estimator: Callable[..., Estimator], capsys: Any) -> None:
    price = priced(estimator())
    Screen(quiet=False)({"price": price})
    assert capsys.readouterr().err == f"price    {in_all(price)}\n"
    Screen(quiet=False)({"price": priced(estimator(free=0))})
    assert "may be stopped" in capsys.readouterr().err


def test_the_alternatives_of_a_budget_and_checkpoints_together(estimator: Callable[..., Estimator]) -> None:
    """With both, less is needed than with either."""
    made = estimator(free=1000, batch_size=64)
    plan, settings = made.parts.plan, made.settings
    changes: list[Options] = [{"token_budget": 64}, {"gradient_checkpointing": True}]
    alone = [made.memory_mb(plan, settings.model_copy(update=one)) for one in changes]
    both = made.memory_mb(plan, settings.model_copy(update=changes[0] | changes[1]))
    assert both < min(alone)
    assert max(alone) < made.memory_mb(plan, settings)


def test_without_rows_there_is_no_price(tiny_bert: Path) -> None:
    assert whet.explain(model=str(tiny_bert)).price is None


def test_what_is_kept_costs_no_pass_the_next_time(
    options: Options, estimator: Callable[..., Estimator], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = estimator().price(always=True)

    def refuse(*_: Any) -> None:
        raise AssertionError("was found again")

    monkeypatch.setattr("whet.runs.estimate.footprint", refuse)
    monkeypatch.setattr("whet.runs.estimate.calibrated", refuse)
    again = estimator().price(always=True)
    assert again.timed == "timed before on this machine"
    assert again.phases[0].memory.activations == first.phases[0].memory.activations


def test_a_calibration_ends_when_its_time_is_over(
    options: Options, estimator: Callable[..., Estimator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has by then serves this plan and others; it is not begun again each time."""
    monkeypatch.setattr("whet.engine.calibration.ENOUGH", 0.0)
    found = estimator().price(always=True)
    assert found.seconds
    assert all(len(points) == 2 for points in timings(options).values())
    assert estimator(batch_size=64).price(always=True).timed == "timed before on this machine"


def test_a_cache_that_cannot_be_written_changes_no_price(
    options: Options, estimator: Callable[..., Estimator], tmp_path: Path
) -> None:
    made = estimator()
    made.cache = tmp_path / "a-file"
    made.cache.write_text("")
    found = made.price(always=True)
    assert found.seconds
    assert found.timed.startswith("timed just now")
    whole = estimator().price(always=True)
    assert found.phases[0].memory.activations == whole.phases[0].memory.activations


@pytest.fixture
def broader(tmp_path: Path) -> Path:
    """Rows of the task's labels, longer than the task's."""
    words = "the parcel has not come and nobody answers the telephone so what am I to do with this order now "
    path = tmp_path / "broader.csv"
    labels = ("card_problem", "loan_request", "order_status")
    path.write_text("text,label\n" + "".join(f"{words} {n},{labels[n % 3]}\n" for n in range(60)))
    return path


def test_replayed_rows_are_in_the_price(estimator: Callable[..., Estimator], broader: Path) -> None:
    """Phases with less of them have fewer steps; their rows are among those whose states are kept."""
    made = estimator(strategy=f"gradual_fine_tuning(top(1), {str(broader)!r}, shares=(0.5, 0.0))", cache="off")
    work = made.work(made.parts.plan, made.settings)
    mixed, own = work.epochs
    assert mixed.steps == 2 * own.steps or mixed.steps == 2 * own.steps - 1
    rows = [sum(batch.rows * batch.times for batch in epoch.batches) for epoch in work.epochs]
    train = len(made.rows["train"].store)
    assert rows == [pytest.approx(train + 8 * mixed.steps, rel=0.1), train]
    assert work.rows == train + len(made.rows["valid"].store) + 60
    plain = made.work(made.parts.with_strategy(STRATEGIES["top"](1), made.settings).plan, made.settings)
    assert plain.rows == work.rows - 60


@pytest.mark.parametrize(
    ("strategy", "part"),
    [("pull_to_base(weights=0.1)", "Phase"), ("pull_to_base(features=1.0)", "Before and after the phases"),
     ("interpolate", "Before and after the phases"), ("lora(merge=True)", "Phase"), ("prompt(tokens=4)", "Phase")],
)  # fmt: skip
def test_every_part_of_a_price_stands_beside_what_came(
    strategy: str, part: str, options: Options, rows_csv: Path, tmp_path: Path
) -> None:
    said = whet.explain(rows_csv, strategy=strategy, **options)
    assert said.price
    assert said.price.seconds
    rest = ("baselines", "forgetting")
    run = whet.fine_tune(
        rows_csv, strategy=strategy, out=tmp_path / "run", quiet=True, **options, **dict.fromkeys(rest, False)
    )
    shown = {one.what: one for one in reckoned(read_run(tmp_path / "run"))}
    assert any(name.startswith(part) for name in shown)
    whole = shown.pop("Training and test")
    memory = shown.pop("Most memory")
    assert whole.estimated == pytest.approx(sum(one.estimated for one in shown.values()), abs=0.01)
    assert run.metrics["estimate"]["peak_mb"] == memory.estimated
    assert explanation(said).count("for the result's weights") == (strategy == "interpolate")


def test_virtual_tokens_and_adapters_have_prices_of_their_own(estimator: Callable[..., Estimator]) -> None:
    """What they keep for the way back is found by passes through the model as it then is."""
    made = [estimator(strategy=strategy) for strategy in ("prompt(tokens=8)", "prompt(tokens=32)", "lora", "bitfit")]
    kept = [one.price(always=False).phases[0].memory.activations for one in made]
    assert kept[1] > 1.3 * kept[0]
    assert kept[2] > kept[3]
    assert len({one.key for one in made}) == 4


def test_lora_is_among_what_would_fit(estimator: Callable[..., Estimator]) -> None:
    """Where gradients and optimizer are what does not fit: activations are no fewer with it."""
    memory = priced(estimator(token_budget=64)).phases[0].memory
    found = priced(estimator(free=memory.total - memory.process - 0.1, token_budget=64))
    assert not found.fits
    assert '--strategy "lora"' in {one.options for one in found.fitting}


def test_a_rounded_body_is_priced_by_the_bytes_that_it_takes(estimator: Callable[..., Estimator]) -> None:
    pytest.importorskip("torchao")
    plain, rounded = (estimator(strategy="lora", **more) for more in ({}, {"quantize_body": "int8"}))
    works = [made.work(made.parts.plan, made.settings) for made in (plain, rounded)]
    assert works[0].rounded == {}
    sizes = {parameter.name: parameter.size for parameter in rounded.parts.anatomy.parameters}
    assert works[1].rounded
    assert all(sizes[name] <= size <= 1.3 * sizes[name] for name, size in works[1].rounded.items())
    found = [made.price(always=True) for made in (plain, rounded)]
    assert found[1].phases[0].memory.weights < found[0].phases[0].memory.weights
    assert found[1].seconds
