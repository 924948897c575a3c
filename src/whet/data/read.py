"""Reading a person's rows: CSV, TSV, JSONL, Parquet, a pandas frame, or lists. What was guessed is said."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whet.data.conll import SUFFIXES as CONLL
from whet.data.conll import looks_like_conll, read_conll
from whet.errors import DataError, PathError, nearest

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", *CONLL)


@dataclass
class Table:
    """Named columns of equal length, as read.

    `lines` holds where each row stands in its source (line of a text file, else 1-based position).
    `notes` says what was guessed; `dropped` counts rows that could not be read, by reason.
    """

    name: str
    columns: dict[str, list[Any]]
    lines: list[int]
    notes: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def findings(self) -> list[str]:
        """What a reader of the result should know: guesses, and rows left out, by reason."""
        return self.notes + [f"{count} rows left out: {reason}" for reason, count in self.dropped.items()]

    def column(self, name: str, option: str) -> list[Any]:
        """Raises `PathError` naming the columns there are."""
        if name not in self.columns:
            near = nearest(name, self.columns)
            hint = f"; did you mean {near}?" if near else "."
            raise PathError(
                f"{self.name} has no column {name!r}{hint} "
                f"Its columns: {', '.join(self.columns)}. Choose one with --{option} NAME."
            )
        return self.columns[name]


def read(source: Any) -> Table:
    """A table from a table, a path, a pandas frame, a mapping of columns, or a list of rows (mappings or pairs).

    Raises `PathError` when there is nothing to read and `DataError` when what is there is no table.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, str | Path):
        return _read_file(locate(source))
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        return _table("the data frame", _columns_of(source))
    if isinstance(source, Mapping) and not any(isinstance(values, str) for values in source.values()):
        return _table("the given columns", {str(name): list(values) for name, values in source.items()})
    if isinstance(source, Sequence) and source:
        if all(isinstance(row, Mapping) for row in source):
            names = dict.fromkeys(str(key) for row in source for key in row)
            return _table("the given rows", {name: [row.get(name) for row in source] for name in names})
        if all(isinstance(row, Sequence) and not isinstance(row, str | bytes) and len(row) == 2 for row in source):
            return _table("the given rows", {"text": [row[0] for row in source], "label": [row[1] for row in source]})
        if all(isinstance(row, str) for row in source):
            return _table("the given rows", {"text": list(source)})
    raise DataError(
        f"cannot read rows from {type(source).__name__}: give a path, a pandas frame, "
        "a mapping of columns, a list of (text, label) pairs, or a list of mappings"
    )


def _columns_of(frame: Any) -> dict[str, list[Any]]:
    """The columns of a pandas frame; what pandas counts as missing becomes None."""
    names = [str(name) for name in frame.columns]
    _refuse_repeated("the data frame", names)
    cells = frame.astype(object).where(frame.notna(), None)
    return {name: cells.iloc[:, place].tolist() for place, name in enumerate(names)}


def _refuse_repeated(where: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{where} has more than one column named {', '.join(repeated)}; rename all but one")


def _table(name: str, columns: dict[str, list[Any]]) -> Table:
    sizes = {key: len(values) for key, values in columns.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{key} has {size}" for key, size in sizes.items())
        raise DataError(f"{name} must be of one length ({shown})")
    count = next(iter(sizes.values()), 0)
    if not count:
        raise DataError(f"{name} hold no rows" if name.endswith("s") else f"{name} holds no rows")
    return Table(name, columns, list(range(1, count + 1)))


def locate(source: str | Path) -> Path:
    """The file of rows at a path. Raises `PathError` where there is none, naming the one most like it."""
    path = Path(source)
    if not str(source):
        raise PathError(f"no file of rows is given ({', '.join(SUFFIXES)})")
    if not path.exists():
        beside = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        if near:
            raise PathError(f"there is no file {path}; did you mean {path.parent / near}?")
        where = f"in {path.parent.resolve()}" if path.parent.is_dir() else f"and no folder {path.parent}"
        raise PathError(f"there is no file {path} {where}; give the path of a file of rows ({', '.join(SUFFIXES)})")
    if path.is_dir():
        raise PathError(f"{path} is a folder; give one file of rows ({', '.join(SUFFIXES)})")
    return path


def _read_file(path: Path) -> Table:
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    text, encoding = _decode(path)
    if not text.strip():
        raise DataError(f"{path} is empty: it needs a header line and rows, for example 'text,label'")
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        table = _read_jsonl(path, text)
    elif path.suffix.lower() in CONLL or (path.suffix.lower() in (".txt", ".tsv") and looks_like_conll(text)):
        columns, lines, dropped, notes = read_conll(path, text)
        table = Table(str(path), columns, lines, notes, dropped)
    else:
        table = _read_delimited(path, text)
    if encoding != "utf-8":
        table.notes.append(f"{path.name} is not UTF-8; read as {encoding}")
    if not len(table):
        reasons = ", ".join(f"{count} with {reason}" for reason, count in table.dropped.items())
        found = f"no row that fits its header (left out: {reasons})" if reasons else "a header but no rows"
        raise DataError(f"{path} has {found}" if table.columns else f"{path} holds no rows")
    return table


def _decode(path: Path) -> tuple[str, str]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PathError(f"cannot read {path}: {error.strerror}") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace"), "utf-16"
    if b"\0" in raw[:65536]:
        raise DataError(f"{path} is not a text file (it holds zero bytes); whet reads {', '.join(SUFFIXES)}")
    try:
        return raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        pass
    odd = sum(byte < 32 and byte not in (9, 10, 13) for byte in raw[:65536])
    if odd > len(raw[:65536]) / 100:
        raise DataError(f"{path} is not a text file; whet reads {', '.join(SUFFIXES)}")
    # Every byte means something in Windows' Western code page but five; those become U+FFFD, which is visible.
    return raw.decode("cp1252", errors="replace"), "cp1252"


def _read_delimited(path: Path, text: str) -> Table:
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    table = Table(str(path), {}, [])
    start = line = 0
    try:
        first = next((row for row in reader if any(name.strip() for name in row)), [])
        header = [name.strip() or f"column {number}" for number, name in enumerate(first, start=1)]
        _refuse_repeated(str(path), header)
        table.columns = {name: [] for name in header}
        line = reader.line_num
        for row in reader:
            start, line = line + 1, reader.line_num
            if not row:
                continue
            if len(header) == 1:
                row = [delimiter.join(row)]
            if len(row) != len(header):
                reason = f"{len(row)} fields where the header has {len(header)}"
                table.dropped[reason] = table.dropped.get(reason, 0) + 1
                continue
            table.lines.append(start)
            for name, value in zip(header, row, strict=True):
                table.columns[name].append(value)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if line > start and _open_quote(text, start, delimiter):
        raise DataError(f"{path}, line {start}: a quotation mark opens a field there and nothing closes it")
    if delimiter not in (",", "\t"):
        table.notes.append(f"{path.name}: fields are divided by a {DELIMITERS[delimiter]}")
    return table


def _open_quote(text: str, start: int, delimiter: str) -> bool:
    """Does the last row, which begins at line `start`, run on to the end of the text for want of a closing quote?"""
    last = list(io.StringIO(text, newline=""))[start - 1 :]
    try:
        list(csv.reader(last, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return str(error) == "unexpected end of data"
    return False


def _delimiter(text: str) -> str:
    """The delimiter that divides the first hundred lines most evenly; a comma when none does."""
    sample = text[:200_000].splitlines(keepends=True)[:100]
    best = (0.0, 0, ",")
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
        if widths and widths[0] > 1:
            even = sum(width == widths[0] for width in widths) / len(widths)
            best = max(best, (even, widths[0], delimiter), key=lambda found: found[:2])
    return best[2]


def _read_jsonl(path: Path, text: str) -> Table:
    rows: list[tuple[int, Any]] = []
    if text.lstrip().startswith("["):
        try:
            rows = list(enumerate(json.loads(text), start=1))
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    rows.append((number, json.loads(line)))
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, line {number}: not JSON: {error.msg}") from error
    wrong = next((number for number, row in rows if not isinstance(row, dict)), None)
    if wrong is not None:
        raise DataError(f'{path}, row {wrong}: each row must be an object like {{"text": ..., "label": ...}}')
    names = dict.fromkeys(str(key) for _, row in rows for key in row)
    columns = {name: [row.get(name) for _, row in rows] for name in names}
    return Table(str(path), columns, [number for number, _ in rows])


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet

    try:
        content = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"cannot read {path} as Parquet: {error}") from error
    if not content.num_rows:
        raise DataError(f"{path} holds no rows")
    columns = {name: content.column(name).to_pylist() for name in content.column_names}
    return Table(str(path), columns, list(range(1, content.num_rows + 1)))
