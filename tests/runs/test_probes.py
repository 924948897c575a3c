"""The search among probes: the vectors are the model's own, validation chooses, and what it prints can be run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

import whet
from whet.cli import main
from whet.config import Settings
from whet.data.check import Rows
from whet.data.store import TokenStore, tokenize
from whet.engine.vectors import pooled_vectors
from whet.errors import DataError, ModelError, SettingsError
from whet.models.anatomy import anatomy_of
from whet.models.depths import find_depths
from whet.models.heads import Pooled, outputs_of, pool
from whet.models.load import build, load_tokenizer
from whet.models.reference import find_model
from whet.plan.anatomy import Anatomy
from whet.plan.edits import NewHead
from whet.runs.probes import Probes
from whet.runs.probes_asked import OPTIONS, POOLINGS

TEXTS = ("my card is lost", "when do I get the loan that I asked for in the spring of last year", "where is it", "card")


def opened(folder: Path) -> tuple[Pooled, Anatomy, TokenStore]:
    """A model with a pooled head, its groups, and some rows of unlike length."""
    source = find_model(str(folder))
    tokenizer = load_tokenizer(source)
    store = tokenize(Rows("rows", TEXTS, (), (1, 2, 3, 4)), tokenizer, 96)
    built = build(source, (NewHead(),), 2, seed=0)
    assert isinstance(built.model, Pooled)
    return built.model, anatomy_of(built.model, "tiny", store.batch(np.arange(2)), outputs_of, built.origin.new), store


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_gpt2"])
def test_vectors_are_the_pooled_hidden_states_of_transformers(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    model, anatomy, store = opened(folder)
    depths = find_depths(model, anatomy, None, store.batch(np.arange(4)))
    found = pooled_vectors(depths, POOLINGS, store, 4096, "fp32", torch.device("cpu"))
    body: Any = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    norm = getattr(body, "ln_f", torch.nn.Identity())  # a decoder kept to a depth normalises there
    assert depths.depths == tuple(range(1, body.config.num_hidden_layers + 1))
    assert set(found) == {(depth, how) for depth in depths.depths for how in POOLINGS}
    for row in range(4):
        batch = store.batch(np.array([row]))
        with torch.no_grad():
            hidden = body(**batch, output_hidden_states=True).hidden_states
            for depth, how in found:
                states = hidden[depth] if depth == depths.depths[-1] else norm(hidden[depth])
                expected = pool(states, batch["attention_mask"], how)[0]
                torch.testing.assert_close(found[depth, how][row], expected, atol=1e-5, rtol=1e-5)


def test_vectors_are_what_a_probe_of_that_depth_would_train_on(tiny_gpt2: Path) -> None:
    model, anatomy, store = opened(tiny_gpt2)
    (expected, width) = (build(find_model(str(tiny_gpt2)), (NewHead(depth=2),), 2, seed=0).model, 4)
    assert isinstance(expected, Pooled)
    batch = store.batch(np.arange(width))
    found = find_depths(model, anatomy, (2,), batch)
    with torch.no_grad():
        assert torch.equal(found.states(batch)[0], expected.body(**batch).last_hidden_state)
        assert len(model.body.h) == 3  # and the model itself keeps all its blocks


def test_a_pass_ends_at_the_deepest_wanted(tiny_bert: Path) -> None:
    model, anatomy, store = opened(tiny_bert)
    batch, met = store.batch(np.arange(4)), list[int]()
    depths = find_depths(model, anatomy, (1, 2), batch)
    for number, block in enumerate(model.body.encoder.layer):
        block.register_forward_hook(lambda *_, number=number: met.append(number))
    with torch.no_grad():
        depths.states(batch)
    assert met == [0, 1]


def test_a_model_that_cannot_be_read_so_is_refused_by_name(tiny_bert: Path) -> None:
    """One whose blocks know how many of them there are."""
    model, _, store = opened(tiny_bert)

    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config, self.inner = model.body.config, model.body

        def forward(self, **inputs: torch.Tensor) -> Any:
            made = self.inner(**inputs)
            made.last_hidden_state = made.last_hidden_state * self.config.num_hidden_layers
            return made

    counting = Pooled(Counting(), model.head, "mean")  # type: ignore[arg-type]
    groups = anatomy_of(counting, "counting", store.batch(np.arange(2)), outputs_of, ["head.layers.1.weight"])
    with pytest.raises(ModelError, match=r"counting: its states after 2 blocks"):
        find_depths(counting, groups, (2,), store.batch(np.arange(4)))


Search = Callable[..., Probes]


@pytest.fixture
def search(tiny_bert: Path, rows_csv: Path) -> Search:
    def run(data: Any = rows_csv, **options: Any) -> Probes:
        options = {"penalties": 4, "precision": "fp32", "threads": 1, "model": tiny_bert, "quiet": True, **options}
        return whet.probes(data, **options)

    return run


def test_the_best_is_chosen_on_validation_by_the_metric(search: Search) -> None:
    for metric in ("accuracy", "log_loss"):
        found = search(metric=metric, poolings="mean,max", penalties=(0.001, 0.1, 10.0))
        assert [(p.depth, p.pooling) for p in found.probes] == [(d, h) for d in (1, 2, 3, 4) for h in ("max", "mean")]
        pick = min if metric == "log_loss" else max
        assert found.best.valid[metric] == pick(score for probe in found.probes for score in probe.scores)
        for probe in found.probes:
            assert probe.scores[found.penalties.index(probe.penalty)] == probe.valid[metric] == pick(probe.scores)
    assert found.best in found.probes


def test_test_rows_change_nothing_but_the_test_scores(search: Search, rows_csv: Path, tmp_path: Path) -> None:
    lines = rows_csv.read_text(encoding="utf-8").splitlines()
    paths = {name: tmp_path / f"{name}.csv" for name in ("train", "valid", "test", "other")}
    wrong = [
        f"{line.rpartition(',')[0]},{label}" for line, label in zip(lines[91:], ["card_problem"] * 30, strict=False)
    ]
    for name, rows in (("train", lines[1:61]), ("valid", lines[61:91]), ("test", lines[91:]), ("other", wrong)):
        paths[name].write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
    one, other = (search(paths["train"], valid=paths["valid"], test=paths[name]) for name in ("test", "other"))
    assert one.probes == other.probes
    assert one.best == other.best
    assert one.test != other.test
    without = search(paths["train"], valid=paths["valid"], test=0)
    assert (without.probes, without.test, without.intervals) == (one.probes, {}, {})


def test_test_scores_have_intervals(search: Search) -> None:
    found = search(depths=2)
    for name in ("accuracy", "macro_f1", "mcc", "log_loss"):
        own = found.intervals[name]
        assert own["low"] <= found.test[name] <= own["high"]
    assert found.rows == {"train": 84, "valid": 18, "test": 18}


def test_balanced_weights_count(search: Search, rows_csv: Path, tmp_path: Path) -> None:
    lines = rows_csv.read_text(encoding="utf-8").splitlines()
    few = [line for n, line in enumerate(lines[1:]) if not line.endswith("card_problem") or n < 30]
    path = tmp_path / "uneven.csv"
    path.write_text("\n".join([lines[0], *few]) + "\n", encoding="utf-8")
    plain, balanced = (search(path, depths=1, class_weight=how, penalties=[0.001]) for how in ("none", "balanced"))
    assert plain.best.valid["log_loss"] != balanced.best.valid["log_loss"]


def test_the_command_that_is_printed_runs(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = search(depths=[1, 3], poolings=["cls"], seed=3, test=0.2, clean_labels=True)
    words = shlex.split(found.command)
    assert words[0] == "whet"
    assert str(found).splitlines()[-1] == f"train it {found.command}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [*words, "--steps", "2", "--cache", "off", "--no-baselines", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    made = json.loads(capsys.readouterr().out)
    (head,) = made["plan"]["edits"]
    assert (head["depth"], head["pooling"]) == (found.best.depth, "cls")
    assert made["rows"] == found.rows


def test_one_json_object_and_nothing_on_the_disk(
    tiny_bert: Path, rows_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--model", tiny_bert, "--depths", "2,3", "--penalties", "0.1,1.0", "--threads", "1", "--json"]
    monkeypatch.setattr("sys.argv", ["whet", "probe", *map(str, [rows_csv, *words])])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert {"read", "model", "tokenise", "capture", "fit", "total"} <= set(found["seconds"])
    assert [(probe["depth"], len(probe["scores"])) for probe in found["probes"]] == [(2, 2), (3, 2)]
    assert found["penalties"] == [0.1, 1.0]
    assert found["best"] in found["probes"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_table_is_short_and_warns_of_the_choice(metric: str, search: Search) -> None:
    made = search(metric=metric, poolings=POOLINGS)
    best, lines = made.best, str(made).splitlines()
    assert lines[0] == f"best     after {best.depth} of 4 blocks, pooling {best.pooling}, C {best.penalty:g}"
    assert [str(best.depth), best.pooling] in [line.split()[:2] for line in lines]
    assert len(lines) <= 25
    assert all(len(line) <= 80 for line in lines[:-1])
    assert "The best of 64 on validation was chosen for its luck" in " ".join(str(made).split())
    assert any("more that scored less" in line for line in lines)


def test_a_single_probe_without_test_rows_has_little_to_say(search: Search) -> None:
    said = str(search(depths=1, penalties=1, test=0))
    assert "luck" not in said
    assert "test rows were scored" not in said


def test_depths_that_the_model_has_not(search: Search) -> None:
    with pytest.raises(SettingsError, match=r"depths = 5, 9: .* has 4 blocks, so depths are 1 to 4; did you mean 4\?"):
        search(depths=[5, 2, 9])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"depths": "0"}, "depths = 0  must be numbers of blocks"),
        ({"depths": [1.5]}, "depths = [1.5]  must be numbers of blocks"),
        ({"poolings": "men"}, "did you mean mean?"),
        ({"penalties": 0}, "penalties = 0  must be how many"),
        ({"penalties": "-1.0,2"}, "penalties = -1.0,2  must be how many"),
        ({"penalties": [float("nan")]}, "must be how many"),
        ({"epochs": 3}, "epochs  means nothing to probes"),
        ({"pooling": "max"}, "give poolings"),
        ({"strategy": "full", "cut": False}, "2 options are wrong"),
        ({"metrik": "mcc"}, "did you mean metric?"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_means_nothing_is_refused(given: dict[str, Any], says: str, search: Search) -> None:
    with pytest.raises(SettingsError) as caught:
        search(data="no/such/file.csv", **given)  # before anything is read
    assert says in str(caught.value)


def test_a_module_is_refused(search: Search) -> None:
    with pytest.raises(SettingsError, match="keeps its own head and depth"):
        search(model=torch.nn.Linear(2, 2))


def test_rows_of_one_label_are_refused_before_the_model(search: Search) -> None:
    with pytest.raises(DataError, match="every row has the label"):
        search([(f"text {n}", "only") for n in range(20)])


def test_every_option_that_is_taken_is_one_of_settings() -> None:
    assert set(OPTIONS) <= set(Settings.model_fields)
