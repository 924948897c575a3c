"""What a stranger gets wrong first. Each ends with one message that names the cure, its exit code, and no trace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

USAGE, FAILURE = 2, 1


def rows(*pairs: tuple[str, str], header: str = "text,label") -> str:
    return "".join(f"{','.join(row)}\n" for row in [tuple(header.split(",")), *pairs])


MANY = [(f"my {label} is number {n}", label) for n in range(6) for label in ("card", "fee")]
PLAIN = rows(*MANY)

DATA_MISTAKES: dict[str, tuple[str, list[str], int, list[str]]] = {
    "an empty file": ("", [], FAILURE, ["data.csv is empty", "header line", "text,label"]),
    "a header only": ("text,label\n", [], FAILURE, ["data.csv has a header but no rows"]),
    "rows that do not fit": ("text,label\na,b,c\n", [], FAILURE, ["1 with 3 fields where the header has 2"]),
    "no header": (PLAIN.removeprefix("text,label\n"), [], FAILURE, ["seems to have no header", "text,label"]),
    "a wrong text column": (PLAIN, ["--text", "txt"], USAGE, ["no column 'txt'", "did you mean text?", "--text"]),
    "a wrong label column": (PLAIN, ["--label", "lable"], USAGE, ["no column 'lable'", "mean label?", "--label"]),
    "one column for both": (PLAIN, ["--text", "label", "--label", "label"], USAGE, ["--text and --label both name"]),
    "one label only": (PLAIN.replace("fee", "card"), [], FAILURE, ["every row has the label 'card'", "--label"]),
    "labels that never repeat": (
        rows(*((text, f"label {n}") for n, (text, _) in enumerate(MANY))),
        [],
        FAILURE,
        ["12 different labels in 12 rows", "--label"],
    ),
    "labels in two spellings": (
        rows(*MANY, ("another", "Card"), ("one more", "card")),
        [],
        FAILURE,
        ["'card' (7 rows) and 'Card' (1 rows)", "--clean-labels"],
    ),
    "texts that are numbers": (
        rows(*((str(n), label) for n, (_, label) in enumerate(MANY))),
        [],
        FAILURE,
        ["'text' holds numbers", "columns: text, label", "--text"],
    ),
    "empty texts only": (rows(("", "a"), (" ", "b")), [], FAILURE, ["no row can be used (2 empty text)"]),
    "a binary file": ("PK\x03\x04\0\0\0\0", [], FAILURE, ["is not a text file", ".csv", ".parquet"]),
    "a quote that is never closed": (PLAIN + '"c,card\ne,fee\n', [], FAILURE, ["line 14", "nothing closes it"]),
    "too few rows": (rows(("a", "x"), ("b", "y")), [], FAILURE, ["2 rows are too few", "--valid and --test"]),
    "a validation file that is not there": (
        PLAIN,
        ["--valid", "dat.csv"],
        USAGE,
        ["no file dat.csv", "did you mean data.csv?"],
    ),
}


@pytest.mark.parametrize("mistake", DATA_MISTAKES)
def test_mistakes_in_the_rows(command: Any, here: Path, mistake: str) -> None:
    content, words, code, says = DATA_MISTAKES[mistake]
    (here / "data.csv").write_text(content)
    command("train", "data.csv", *words).refused(code, *says)


OPTION_MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "a wrong path": (["row.csv"], ["there is no file row.csv", "did you mean rows.csv?"]),
    "a path to nowhere": (["data/rows.csv"], ["there is no file data/rows.csv and no folder data", ".jsonl"]),
    "a folder": (["."], [". is a folder", ".csv"]),
    "no rows": ([], ["Missing argument 'DATA'", "whet train --help"]),
    "an unknown option": (["rows.csv", "--foo", "bar"], ["1 option is wrong", "foo  unknown", "--help"]),
    "an unknown option first": (["--foo", "bar", "rows.csv"], ["1 option is wrong", "foo  unknown"]),
    "a misspelt option": (["rows.csv", "--learning-rat", "1e-4"], ["did you mean learning_rate?"]),
    "a misspelt option with =": (["rows.csv", "--learning-rat=1e-4"], ["did you mean learning_rate?"]),
    "a misspelt flag": (["--quite", "rows.csv"], ["quite  unknown", "did you mean quiet?"]),
    "a name from elsewhere": (["rows.csv", "--lr", "1e-4"], ["did you mean learning_rate?"]),
    "a short option": (["rows.csv", "-z"], ["'-z'  is no option"]),
    "a second file": (["rows.csv", "more.csv"], ["'more.csv'  is no option"]),
    "an option without its value": (["rows.csv", "--epochs"], ["--epochs", "requires an argument"]),
    "an option that ate another": (["rows.csv", "--epochs", "--steps", "3"], ["epochs = --steps  must be a number"]),
    "a wrong value": (["rows.csv", "--epochs", "many"], ["epochs = many  must be a number above 0"]),
    "two lengths": (["rows.csv", "--epochs", "1", "--steps", "2"], ["epochs, steps  give one of them"]),
    "a wrong strategy": (["rows.csv", "--strategy", "prob"], ["did you mean probe?"]),
    "code for a strategy": (["rows.csv", "--strategy", "__import__('os')"], ["unknown strategy '__import__'"]),
    "a config file that is not there": (["rows.csv", "--config", "c.yaml"], ["config file c.yaml", "No such file"]),
    "several at once": (
        ["rows.csv", "--learning-rat", "1", "--batch-size", "0", "--metric", "acc", "--seed", "x", "--foo"],
        ["5 options are wrong", "learning_rat", "batch_size = 0", "metric = acc", "seed = x", "foo"],
    ),
}


@pytest.mark.parametrize("verb", ["train", "fine-tune"])
@pytest.mark.parametrize("mistake", OPTION_MISTAKES)
def test_mistakes_in_the_call(command: Any, mistake: str, verb: str) -> None:
    words, says = OPTION_MISTAKES[mistake]
    command(verb, *words).refused(USAGE, *(part.replace("whet train", f"whet {verb}") for part in says))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fine-tun", "rows.csv"], ["No such command 'fine-tun'", "fine-tune"]),
        (["finetune", "rows.csv"], ["No such command 'finetune'", "fine-tune"]),
        (["explain", "rows.csv", "--verb", "trian"], ["--verb trian", "did you mean train?"]),
        (["explain", "rows.csv", "--epochs", "x"], ["epochs = x  must be a number above 0"]),
        (["predict"], ["Missing argument 'RUN'", "whet predict --help"]),
        (["predict", "run", "rows.csv", "--epochs", "3"], ["No such option: --epochs", "whet predict --help"]),
    ],
    ids=lambda value: " ".join(value[:2]),
)
def test_mistakes_in_other_calls(command: Any, words: list[str], says: list[str]) -> None:
    command(*words).refused(USAGE, *says)


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["train", "row.csv"], "did you mean rows.csv?", USAGE),
        (["fine-tune", "rows.csv", "--learning_rat", "1", "--epochs", "x"], "2 options are wrong", USAGE),
        (["train", "rows.csv", "--epochs"], "requires an argument", USAGE),
        (["train", "empty.csv", "--json"], "empty.csv is empty", FAILURE),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_real_process_says_the_same(process: Any, here: Path, words: list[str], says: str, code: int) -> None:
    (here / "empty.csv").touch()
    process(*words).refused(code, says)


def test_debug_shows_where_an_error_came_from(command: Any) -> None:
    ended = command("train", "row.csv", "--debug")
    assert ended.code == USAGE
    assert ended.out == ""
    assert "Traceback (most recent call last)" in ended.err
    assert ended.err.splitlines()[-1] == "whet: there is no file row.csv; did you mean rows.csv?"


def test_no_words_at_all_gives_help(command: Any) -> None:
    assert "Commands:" in command().succeeded()
    assert "fine-tune" in command("--help").succeeded()


def test_help_shows_every_option_with_what_it_accepts(command: Any) -> None:
    from whet.config import Settings

    shown = " ".join(command("fine-tune", "--help").succeeded().split())
    for name, field in Settings.model_fields.items():
        extra: Any = field.json_schema_extra
        assert f"--{name.replace('_', '-')} " in shown
        assert str(field.description) in shown
        assert field.annotation is bool or extra["expects"] in shown


def test_options_may_be_written_with_underscores(command: Any) -> None:
    command("train", "rows.csv", "--batch_size", "0").refused(
        USAGE, "batch_size = 0  must be a whole number, 1 or more"
    )


def test_a_wrong_option_of_a_file_is_named_with_those_of_the_call(command: Any, here: Path) -> None:
    (here / "c.yaml").write_text("learning_rat: 1e-4\n")
    command("train", "rows.csv", "--config", "c.yaml", "--epochs", "x").refused(USAGE, "2 options are wrong")


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("rows.csv", ["--out rows.csv exists already", "choose another --out"]),
        ("full", ["--out full exists already", "choose another --out"]),
        ("unfinished", ["--out unfinished exists already", "whet resume unfinished", "choose another --out"]),
        ("rows.csv/run", ["cannot create the run folder rows.csv/run", "choose another --out"]),
        ("/proc/run", ["cannot create the run folder /proc/run", "choose another --out"]),
    ],
)
def test_an_out_that_cannot_be_used(command: Any, here: Path, out: str, says: list[str]) -> None:
    for name in ("full", "unfinished"):
        (here / name).mkdir()
    (here / "full" / "mine.txt").write_text("mine")
    (here / "unfinished" / "run.json").write_text("{}")
    command("train", "rows.csv", "--out", out).refused(USAGE, *says)
    assert (here / "full" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("verb", ["predict", "eval", "resume"])
@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("nowhere", "there is no folder nowhere"),
        (".", "there is no run (no run.json) in ."),
        ("rows.csv", "there is no run (no run.json) in rows.csv"),
    ],
)
def test_a_folder_that_is_no_run(command: Any, verb: str, run: str, says: str) -> None:
    words = [verb, run] if verb == "resume" else [verb, run, "rows.csv"]
    command(*words).refused(USAGE, says, "give the folder that whet printed")


@pytest.mark.parametrize("verb", ["predict", "eval"])
def test_a_run_that_is_not_finished(command: Any, here: Path, finished: Any, verb: str) -> None:
    (here / "half").mkdir()
    for name in ("run.json", "plan.yaml"):
        shutil.copy(finished.path / name, here / "half" / name)
    command(verb, "half", "rows.csv").refused(FAILURE, "the run in half is not finished", "whet resume half")


def test_a_run_that_is_finished_has_nothing_to_resume(command: Any, finished: Any) -> None:
    command("resume", finished.path).refused(FAILURE, "is finished", f"whet predict {finished.path} FILE")


def test_a_run_whose_papers_are_torn(command: Any, here: Path, finished: Any) -> None:
    shutil.copytree(finished.path, here / "torn")
    (here / "torn" / "run.json").write_text('{"settings": ')
    command("predict", "torn", "rows.csv").refused(FAILURE, "cannot read torn/run.json")


def test_labels_that_the_model_does_not_know(command: Any, here: Path, finished: Any) -> None:
    (here / "other.csv").write_text("text,label\nwhere is it,order_status\nno money,loan_reqest\n")
    command("eval", finished.path, "other.csv").refused(
        FAILURE, "unknown label 'loan_reqest'", "other.csv, row 3", "did you mean loan_request?"
    )


def test_rows_to_predict_without_the_column(command: Any, here: Path, finished: Any) -> None:
    command("predict", finished.path, "rows.csv", "--text", "txt").refused(
        USAGE, "no column 'txt'", "did you mean text?"
    )
    command("predict", finished.path, "row.csv").refused(USAGE, "no file row.csv", "did you mean rows.csv?")
    command("predict", finished.path, stdin="caf\xe9\n".encode("cp1252")).refused(
        FAILURE, "standard input is not UTF-8", "give it as a file"
    )


@pytest.mark.parametrize(
    ("model", "code", "says"),
    [
        (
            "bert-bas-uncased",
            USAGE,
            ["no model 'bert-bas-uncased'", "a folder", "an installed package", "hub:owner/name"],
        ),
        ("json", USAGE, ["no model 'json'", "a folder", "an installed package", "hub:owner/name"]),
        ("nothing", USAGE, ["the folder nothing holds no model", "config.json"]),
        ("weightless", FAILURE, ["weightless holds no *.safetensors", "save_pretrained"]),
    ],
)
def test_a_model_that_is_none(command: Any, here: Path, model: str, code: int, says: list[str]) -> None:
    (here / "nothing").mkdir()
    (here / "weightless").mkdir()
    (here / "weightless" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (here / "weightless" / "pytorch_model.bin").write_bytes(b"weights")
    command("train", "rows.csv", "--model", model, "--out", "run").refused(code, *says)
    assert not (here / "run").exists()
