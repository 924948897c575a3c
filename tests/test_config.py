"""Settings: every wrong option is refused, all in one message, and every value is traced to where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import whet
from whet.config import DEFAULT_MODEL, Resolved, Settings, resolve
from whet.errors import PathError, SettingsError
from whet.plan.edits import NewHead, SetDropout
from whet.plan.schedules import Cosine, Linear, Warmup
from whet.plan.values import SGD, Length

WRONG: dict[str, Any] = {
    "valid": "0",
    "test": "1",
    "clean_labels": "maybe",
    "valid_tags": "maybe",
    "strategy": "ful",
    "learning_rate": "fast",
    "epochs": "0",
    "steps": "1.5",
    "minutes": "-1",
    "batch_size": "0",
    "batching": "gruoped",
    "optimizer": "adamx",
    "weight_decay": "-0.1",
    "schedule": "linaer",
    "warmup": "x steps",
    "max_grad_norm": "0",
    "dropout": "1",
    "label_smoothing": "1",
    "class_weight": "balancd",
    "patience": "0",
    "task": "clasification",
    "metric": "acuracy",
    "validations_per_epoch": "0",
    "gradient_checkpointing": "maybe",
    "precision": "fp8",
    "max_length": "3",
    "token_budget": "7",
    "checkpoint_seconds": "0",
    "threads": "0",
    "seed": "2147483648",
    "head": "mlp(0)",
    "pooling": "meen",
    "quantize_body": "int4",
    "cut": "maybe",
    "baselines": "maybe",
    "forgetting": "maybe",
    "calibrate": "perhaps",
    "seeds": "0",
    "split_seed": "-1",
    "tensorboard": "maybe",
    "compile": "perhaps",
}
ANY_TEXT = {
    "model": "a folder, a package or hub:owner/name: whether it is there is found when it is loaded",
    "text": "any column's name: whether it is there depends on the file",
    "label": "any column's name: whether it is there depends on the file",
    "plan": "any file's name: whether it holds a plan is found when it is read",
    "remember": "any file's name: whether it holds rows is found when it is read",
    "text_b": "any column's name: whether it is there depends on the file",
    "cache": "any folder's name, or off",
    "out": "any folder's name: whether it can be made is found when it is made",
}
ALSO_WRONG: dict[str, list[Any]] = {
    "valid": ["", True, "-0.1", "nan", 1.5, ["a"]],
    "test": [True, "-0.1", "inf", "2"],
    "learning_rate": [0, "-1e-4", "nan", "inf", [1]],
    "epochs": ["inf", "three"],
    "steps": [0, "many"],
    "optimizer": ["sgd(momentum=2)", "sgd(momentun=0.9)", "sgd(0.9)", "sgd +", 3, {"kind": "sgdd"}],
    "schedule": ["slanted(cut=2)", "cosine + linear", 3],
    "warmup": ["1", 5, "-0.1", "1 epoch", "nan"],
    "head": ["mlp", "mlp(-3)", "mlp(2.5)", "mlp(8, dropout=1)", "lin", 3],
    "text": [5, ""],
    "model": [5, ""],
    "out": [""],
    "strategy": [5, "__import__('os')"],
    "seed": ["-1", "1.5"],
    "clean_labels": [2],
}
EVERY_WRONG = [*WRONG.items(), *((name, value) for name, values in ALSO_WRONG.items() for value in values)]


def refused(given: dict[str, Any], **how: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve("fine_tune", given, **how)
    return str(caught.value)


def test_every_option_has_a_wrong_value_here_or_a_reason_why_not() -> None:
    assert set(WRONG) | set(ANY_TEXT) == set(Settings.model_fields)
    assert not set(WRONG) & set(ANY_TEXT)


@pytest.mark.parametrize("name", sorted(ANY_TEXT))
def test_what_is_excused_does_take_any_text(name: str) -> None:
    assert getattr(Settings.model_validate({name: "x y z"}), name) == "x y z"


@pytest.mark.parametrize(("name", "value"), EVERY_WRONG, ids=lambda value: str(value))
def test_a_wrong_value_is_refused_by_name_with_what_would_be_right(name: str, value: Any) -> None:
    message = refused({name: value})
    assert message.startswith("1 option is wrong\n")
    assert f"{name} = {value}" in message
    if name != "strategy":
        expects: Any = Settings.model_fields[name].json_schema_extra
        assert f"must be {expects['expects']}" in message


def test_all_wrong_options_come_in_one_message() -> None:
    lengths = {"steps", "minutes"}
    given = {name: value for name, value in WRONG.items() if name not in lengths} | {"learning_rat": 1, "wram_up": 2}
    message = refused(given)
    lines = message.splitlines()
    assert lines[0] == f"{len(given)} options are wrong"
    assert len(lines) == len(given) + 1
    for name in given:
        assert sum(line.split()[0] == name for line in lines[1:]) == 1
    assert "learning_rat" in message
    assert "did you mean learning_rate?" in message
    assert "did you mean warmup?" in message


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"learning_rat": 1}, "learning_rat  unknown; did you mean learning_rate?"),
        ({"lr": 1}, "did you mean learning_rate?"),
        ({"num_epochs": 1}, "did you mean epochs?"),
        ({"xyz": 1}, "xyz  unknown; --help lists the options"),
        ({"quite": True}, "did you mean quiet?"),
        (
            {"metric": "acuracy"},
            "metric = acuracy  must be a score of the task: accuracy, macro_f1, mcc, log_loss, micro_f1",
        ),
        ({"schedule": "linaer"}, "unknown schedule 'linaer'; did you mean linear?"),
        ({"optimizer": "sgd(momentun=0.9)"}, "no argument 'momentun'; did you mean momentum?"),
        ({"optimizer": "sgd(momentum=2)"}, "optimizer sgd: momentum: Input should be less than 1"),
        ({"optimizer": "sgd(0.9)"}, "optimizer sgd: its arguments need names"),
        ({"head": "mlp"}, "give the width of each hidden layer, for example mlp(256)"),
        ({"warmup": "x steps"}, "'x steps' is no length"),
        ({"strategy": "ful"}, "unknown strategy 'ful'; did you mean full?"),
        ({"strategy": "full(lr=1)"}, "strategy full has no argument 'lr'; did you mean learning_rate?"),
        ({"epochs": 1, "steps": 5}, "epochs, steps  give one of them: a run has one length"),
        ({"epochs": 1, "steps": 5, "minutes": 2}, "epochs, steps, minutes  give one of them"),
        ({"valid": 0.5, "test": 0.5}, "valid, test  these shares leave no rows to train on"),
        ({"weight_decay": 0.1, "optimizer": "adam(weight_decay=0.2)"}, "weight_decay  given twice"),
        ({"weight_decay": 0.1, "optimizer": SGD(weight_decay=0.2)}, "weight_decay  given twice"),
        ({"plan": "p.yaml", "strategy": "full"}, "strategy  given beside plan"),
        ({"remember": "a.csv", "forgetting": False}, "remember  measures forgetting, which is turned off"),
    ],
    ids=str,
)
def test_what_the_message_says(given: dict[str, Any], says: str) -> None:
    assert says in refused(given)


def test_a_flag_is_compared_with_all_that_a_command_takes() -> None:
    assert "did you mean json?" in refused({"jsno": ""}, given_as="flag")
    assert "did you mean" not in refused({"jsno": ""}, given_as="call")


def test_the_defaults() -> None:
    resolved = resolve("fine_tune", {})
    assert resolved.settings.model == DEFAULT_MODEL
    assert str(resolved.strategy) == resolved.settings.strategy == "full"
    assert str(resolve("train", {}).strategy) == "probe"
    assert set(resolved.sources) == set(Settings.model_fields)
    assert set(resolved.sources.values()) == {"default"}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_option_says_what_it_means_and_accepts(name: str) -> None:
    field = Settings.model_fields[name]
    extra: Any = field.json_schema_extra
    assert field.description
    assert extra["expects"]


def test_an_unknown_verb_gets_the_nearest() -> None:
    with pytest.raises(SettingsError, match="unknown verb 'fine-tune'; did you mean fine_tune"):
        resolve("fine-tune", {})


TEXTS: dict[str, Any] = {
    "valid": "0.25",
    "test": "held out.csv",
    "learning_rate": "1e-4",
    "epochs": "2",
    "batch_size": "8",
    "optimizer": "sgd(momentum=0.5)",
    "schedule": "cosine",
    "warmup": "100 steps",
    "head": "mlp(64, 32, dropout=0.2)",
    "clean_labels": "yes",
    "strategy": "probe(learning_rate=0.1)",
    "seed": "7",
}
VALUES: dict[str, Any] = {
    "valid": 0.25,
    "test": Path("held out.csv"),
    "learning_rate": 1e-4,
    "epochs": 2,
    "batch_size": 8,
    "optimizer": SGD(momentum=0.5),
    "schedule": Cosine(),
    "warmup": Warmup(steps=100),
    "head": NewHead(hidden=(64, 32), dropout=0.2),
    "clean_labels": True,
    "strategy": whet.probe(learning_rate=0.1),
    "seed": 7,
}


def test_a_text_says_the_same_as_a_value() -> None:
    assert resolve("train", TEXTS).settings == resolve("train", VALUES).settings
    assert resolve("train", TEXTS).settings.valid == 0.25
    assert resolve("train", TEXTS).settings.test == "held out.csv"


def test_settings_survive_writing_and_reading() -> None:
    made = resolve("train", TEXTS).settings
    assert Settings.model_validate_json(made.model_dump_json()) == made
    native = resolve("train", {"head": "native", "warmup": 0.1}).settings
    assert Settings.model_validate_json(native.model_dump_json()) == native


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({"epochs": 0.5}, Length(amount=0.5, unit="epochs")),
        ({"steps": 5}, Length(amount=5, unit="steps")),
        ({"minutes": 2}, Length(amount=2, unit="min")),
        ({}, None),
    ],
    ids=str,
)
def test_the_length_that_was_asked_for(given: dict[str, Any], length: Length | None) -> None:
    assert resolve("train", given).settings.length() == length


def test_what_strategies_are_told() -> None:
    given = {"dropout": 0.3, "pooling": "cls", "learning_rate": 1e-3, "patience": 2, "schedule": "linear"}
    told = resolve("train", given).settings.defaults()
    assert told.edits == (NewHead(pooling="cls", dropout=0.3), SetDropout(share=0.3))
    assert (told.learning_rate, told.schedule) == (1e-3, Linear())
    assert told.stop is not None
    assert told.stop.validations == 2
    assert resolve("train", {}).settings.defaults().edits == (NewHead(),)


def from_file(tmp_path: Path, content: str, given: dict[str, Any] | None = None) -> Resolved:
    file = tmp_path / "options.yaml"
    file.write_text(content, encoding="utf-8")
    return resolve("fine_tune", given or {}, given_as="flag", config=str(file))


def test_a_file_has_the_same_names_and_flags_win_over_it(tmp_path: Path) -> None:
    content = "learning_rate: 1e-4\nbatch-size: 8\nepochs: 2\nclean_labels: yes\nstrategy: probe\n"
    resolved = from_file(tmp_path, content, {"epochs": "5", "strategy": "full"})
    settings = resolved.settings
    # YAML 1.1 reads 1e-4 as a text, and yes as true.
    assert (settings.learning_rate, settings.batch_size, settings.clean_labels) == (1e-4, 8, True)
    assert (settings.epochs, settings.strategy) == (5, "full")
    file = f"file {tmp_path / 'options.yaml'}"
    assert {name: resolved.sources[name] for name in ("learning_rate", "batch_size", "epochs", "strategy", "seed")} == {
        "learning_rate": file,
        "batch_size": file,
        "epochs": "flag",
        "strategy": "flag",
        "seed": "default",
    }


def test_a_file_says_what_a_call_says(tmp_path: Path) -> None:
    content = "".join(f"{name}: {value!r}\n" for name, value in TEXTS.items())
    assert from_file(tmp_path, content).settings == resolve("fine_tune", VALUES).settings


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert from_file(tmp_path, "# nothing yet\n").settings == resolve("fine_tune", {}).settings


def test_wrong_options_of_a_file_and_a_call_come_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        from_file(tmp_path, "learning_rat: 1\nepochs: none\n", {"batch_size": "0"})
    assert str(caught.value).startswith("3 options are wrong\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: b: c", "is not YAML"),
        ("epochs: 2\nepochs: 5", "is not YAML: epochs is given twice"),
        ("batch_size: 8\nbatch-size: 32", "gives batch_size twice"),
        ("\tlearning_rate: 1", "is not YAML"),
        ("- learning_rate", "must hold lines like 'learning_rate: 1e-4'"),
        ("learning_rate", "must hold lines like 'learning_rate: 1e-4'"),
        ("1: 2", "1  is no option"),
        ("learning_rate: [1, 2]", "learning_rate = [1, 2]"),
    ],
)
def test_files_that_are_no_options(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_file(tmp_path, content)
    assert says in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PathError, match=r"cannot read the config file .*none\.yaml: No such file"):
        resolve("train", {}, config=str(tmp_path / "none.yaml"))


PLAN = """
phases:
- name: top
  train: top(1)
  length: 2 epochs
  rate: {base: 1e-4}
"""


def test_a_plan_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN, encoding="utf-8")
    assert str(resolve("fine_tune", {"plan": file}).strategy) == f"of {file}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (PLAN.replace("top(1)", "tpo(1)"), "unknown selection 'tpo'; did you mean top?"),
        (PLAN.replace("2 epochs", "2"), "2 what?"),
        (PLAN.replace("length", "lenght"), "phases.0.lenght"),
        (PLAN.replace("1e-4", "fast"), "phases.0.rate.base"),
        ("phases: []", "phases"),
        ("phases: [", "is not YAML"),
        ("", "all of it: Input should be"),
    ],
)
def test_a_file_that_is_no_plan(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        resolve("fine_tune", {"plan": str(file)})
    assert str(file) in str(caught.value)
    assert says in str(caught.value)


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PathError, match=r"cannot read the plan .*none\.yaml"):
        resolve("fine_tune", {"plan": str(tmp_path / "none.yaml")})
