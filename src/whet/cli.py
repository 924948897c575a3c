"""The command line. Options are those of `Settings`, by the same names; all wrong ones are refused together."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whet.errors import DataError, Interrupted, RunError, SettingsError, WhetError, did_you_mean
from whet.flags import LOOSE, with_settings
from whet.runs.probes_asked import OPTIONS as PROBE_OPTIONS

if TYPE_CHECKING:
    from whet.tasks.task import Task

USAGE_ERROR: Any = typer.BadParameter.__base__
"""What the parser raises for a call that it cannot read: click's class, of which newer typers bring their own copy."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress")]
Config = Annotated[str | None, typer.Option(help="a YAML file of options; flags win over it", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on standard output, and nothing else")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="rows: .csv, .tsv, .jsonl or .parquet", show_default=False)]
OptionalData = Annotated[
    str, typer.Argument(metavar="[DATA]", help="rows; without them, what --model M is made of", show_default=False)
]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="a run folder, as whet printed it", show_default=False)]


@app.command("fine-tune", context_settings=LOOSE)
@with_settings
def fine_tune(
    data: Data,
    flags: dict[str, Any],
    config: Config = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fine-tune a pretrained model on your rows: all weights, small rate, few epochs."""
    run_verb("fine_tune", data, flags, config, as_json, quiet, debug)


@app.command("train", context_settings=LOOSE)
@with_settings
def train(
    data: Data,
    flags: dict[str, Any],
    config: Config = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a new head on the frozen model: the body is computed once, the head in many epochs."""
    run_verb("train", data, flags, config, as_json, quiet, debug)


def run_verb(
    verb: str, data: str, flags: dict[str, Any], config: str | None, as_json: bool, quiet: bool, debug: bool
) -> None:
    with errors_as_text(debug):
        from whet.config import resolve

        resolved = resolve(verb, flags, given_as="flag", config=config)
        from whet.data.read import locate
        from whet.report.terminal import Screen

        locate(data)
        screen = Screen(quiet=quiet)
        from whet.runs.seeds import begin_all

        try:
            folder = begin_all(resolved, data, screen)
        finally:
            screen.close()
        show_run(folder.path, as_json)


@app.command("probe", context_settings=LOOSE)
@partial(with_settings, names=PROBE_OPTIONS)
def probe(
    data: Data,
    flags: dict[str, Any],
    depths: Annotated[
        str | None, typer.Option(help="blocks from the input that features are taken after: 2,4,6 (all)", metavar="N,N")
    ] = None,
    poolings: Annotated[
        str | None, typer.Option(help="mean, cls, max, last (what the model was made for)", metavar="HOW,HOW")
    ] = None,
    penalties: Annotated[
        str, typer.Option(help="how many, or values of C as in scikit-learn: 0.01,0.1,1.0", metavar="N")
    ] = "20",
    config: Config = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find the depth, pooling and penalty of the best linear head on the frozen model. Keeps nothing."""
    with errors_as_text(debug):
        from whet.data.read import locate
        from whet.runs.probes_asked import asked

        wanted = asked(flags, depths, poolings, penalties, given_as="flag", config=config)
        locate(data)
        from whet.report.terminal import Screen
        from whet.runs.probes import search

        found = search(wanted, data, Screen(quiet=quiet).say)
        if not int(os.environ.get("RANK", "0")):
            print(json.dumps(found.metrics, ensure_ascii=False) if as_json else found)


@app.command()
def resume(run: RunPath, as_json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Go on with a run that was stopped or killed, to the same bits as if it had not been."""
    with errors_as_text(debug):
        from whet.runs.folder import Folder

        Folder.open(run)
        from whet.report.terminal import Screen
        from whet.runs.seeds import go_on_all

        screen = Screen(quiet=quiet)
        try:
            folder = go_on_all(run, screen)
        finally:
            screen.close()
        show_run(folder.path, as_json)


def show_run(path: Any, as_json: bool) -> None:
    """The result, from the main process only."""
    if int(os.environ.get("RANK", "0")):
        return
    from whet.runs.result import load

    made = load(path)
    print(json.dumps(made.metrics, ensure_ascii=False) if as_json else made)


@app.command(context_settings=LOOSE)
@with_settings
def explain(
    flags: dict[str, Any],
    data: OptionalData = "",
    verb: Annotated[str, typer.Option(help="fine-tune or train", metavar="VERB")] = "fine-tune",
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print what would run and what it would cost: the plan, time, memory, disk, and where each setting came from.

    Trains nothing; the first time, it takes some seconds to time this machine.

    Into a file it writes the plan as YAML, the rest as comments: edit it and run it with --plan FILE.
    """
    with errors_as_text(debug):
        verbs = {"fine-tune": "fine_tune", "train": "train"}
        if verb not in verbs:
            raise SettingsError(f"--verb {verb}: {did_you_mean(verb, verbs)}")
        from whet.config import resolve
        from whet.data.read import locate

        # Mistakes in the call are found before the slow imports that follow, here and in the other commands.
        resolve(verbs[verb], flags, given_as="flag", config=config)
        if data:
            locate(data)
        from whet.report.terminal import explanation
        from whet.runs.explained import explained
        from whet.runs.folder import plan_text

        found = explained(data or None, verbs[verb], flags, given_as="flag", config=config)
        if as_json:
            print(found.model_dump_json())
        elif sys.stdout.isatty() or not data:
            print(explanation(found))
        else:
            comments = "\n".join(f"# {line}".rstrip() for line in explanation(found).splitlines())
            print(f"{comments}\n\n{plan_text(found.plan)}", end="")


@app.command()
def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN [RUN ...]", help="run folders, as whet printed them", show_default=False)
    ],
    out: Annotated[
        str | None, typer.Option(help="where to write it; report.html in the run when not given", metavar="FILE")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write the report of a finished run, or one that sets several runs side by side."""
    with errors_as_text(debug):
        from pathlib import Path

        from whet.runs.folder import Folder

        folders = [Folder.open(run) for run in runs]
        for folder in folders:
            folder.metrics()
        from whet.report.html import write_report
        from whet.report.side_by_side import write_comparison

        if len(folders) == 1:
            print(write_report(folders[0].path, None if out is None else Path(out)))
        else:
            print(write_comparison([folder.path for folder in folders], Path(out or "comparison.html")))


@app.command("eval")
def evaluate(run: RunPath, data: Data, as_json: Json = False, debug: Debug = False) -> None:
    """Score a finished run on other labelled rows."""
    with errors_as_text(debug):
        from whet.data.read import read
        from whet.runs.folder import Folder

        Folder.open(run).metrics()
        table = read(data)
        from whet.report.terminal import scores_table
        from whet.runs.result import load

        made = load(run)
        found = made.evaluate(table)
        print(json.dumps(found, ensure_ascii=False) if as_json else scores_table(found, made.metrics["task"]))


@app.command()
def predict(
    run: RunPath,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]", help="rows; without it, one text a line from standard input", show_default=False
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="column of the texts", metavar="NAME")] = None,
    text_b: Annotated[str | None, typer.Option(help="column of the second texts of pairs", metavar="NAME")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict with a finished run: CSV with the columns prediction, probability, text (or JSON objects, one a line).

    What is no label has no probability; of pairs there is also text_b, and a line of standard input holds both texts,
    divided by a tab.
    """
    with errors_as_text(debug):
        from whet.data.read import read
        from whet.runs.folder import Folder

        Folder.open(run).metrics()
        table = None if data is None else read(data)
        from whet.runs.result import load

        made = load(run)
        for note in [] if table is None else table.findings():
            print(f"whet: note: {note}", file=sys.stderr)
        lots = made.lines_to_predict(stdin_lines()) if table is None else [made.rows_to_predict(table, text, text_b)]
        write_predictions((one for rows in lots for one in made.predictions(rows)), made.task, as_json)


def stdin_lines() -> Iterator[str]:
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise DataError("standard input is not UTF-8; give it as a file, whose encoding is recognised") from error


def write_predictions(predictions: Iterator[dict[str, Any]], task: Task, as_json: bool) -> None:
    import csv
    from itertools import chain, islice

    # The first comes before the header, so that input which cannot be read leaves no output.
    first = list(islice(predictions, 1))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if not as_json:
        writer.writerow(first[0] if first else [*task.blank(), "text"])
    for one in chain(first, predictions):
        if as_json:
            print(
                json.dumps({n: round(v, 6) if isinstance(v, float) else v for n, v in one.items()}, ensure_ascii=False)
            )
        else:
            writer.writerow([task.cell(name, value, 4) for name, value in one.items()])


@contextmanager
def errors_as_text(debug: bool) -> Iterator[None]:
    """One clear message and the exit code for whatever goes wrong; the traceback only when asked for."""
    import warnings

    if not debug:
        warnings.simplefilter("ignore")
    try:
        yield
    except WhetError as error:
        fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        fail("stopped at once; what was saved last can be resumed: whet resume RUN", Interrupted.exit_code, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        cure = "; free some space, or choose another --out" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        fail(f"{error.strerror or error}{where}{cure}", RunError.exit_code, debug)
    except (typer.Exit, typer.Abort, USAGE_ERROR):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        fail(f"a mistake in whet itself ({what}); please report it with what --debug prints", 1, debug)


def fail(text: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"whet: {text}", file=sys.stderr)
    raise typer.Exit(code)


def main() -> None:
    """The entry point. Usage errors that the parser finds itself are shown like ours."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except USAGE_ERROR as error:
        hint = f"\ntry: {error.ctx.command_path} --help" if error.ctx else ""
        print(f"whet: {error.format_message()}{hint}", file=sys.stderr)
        sys.exit(2)
    except typer.Abort:
        print("whet: stopped", file=sys.stderr)
        sys.exit(Interrupted.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
