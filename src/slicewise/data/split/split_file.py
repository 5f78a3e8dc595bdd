"""Reads the file of `split.file`: the subset of each patient, case, file or folder, as JSON or CSV."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from slicewise.core.errors import SplitError
from slicewise.data.split.assignment import Subset

_SPELLINGS: Final[Mapping[str, Subset]] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
}  # fmt: skip
_SUBSET_COLUMNS: Final = ("subset", "split", "set", "partition")
_EXPECTED: Final = (
    'expected JSON {"train": ["NAME", ...], "val": [...], "test": [...]} or {"NAME": "test", ...}, or CSV '
    "with the columns name and subset"
)


def parse_subset(word: str) -> Subset | None:
    """Return the subset that a word stands for, in any letter case; None where it is none."""
    return _SPELLINGS.get(word.strip().lower())


def read_split_file(path: Path) -> dict[str, Subset]:
    """Return the subset of each name in a file.

    Raises:
        SplitError: it cannot be read, has another form, names no test cases, or names one in two subsets.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = [*(_json_pairs(json.loads(text)) if path.suffix.lower() == ".json" else _csv_pairs(text))]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise SplitError(f"split.file: {path} cannot be read ({error}); {_EXPECTED}") from error
    except ValueError as error:
        raise SplitError(f"split.file: {path}: {error}") from error
    listed: dict[str, Subset] = {}
    for name, subset in pairs:
        if not name:
            raise SplitError(f"split.file: {path}: a name for {subset} is empty; {_EXPECTED}")
        if listed.setdefault(name, subset) != subset:
            both = f"{name} is in both {listed[name]} and {subset}"
            raise SplitError(f"split.file: {path}: {both}; leave one of the lines out")
    if "test" not in listed.values():
        raise SplitError(f"split.file: {path} names no case for test; {_EXPECTED}")
    return listed


def _json_pairs(content: Any) -> Iterator[tuple[str, Subset]]:
    if isinstance(content, list) and len(content) == 1:  # the splits of nnU-Net are a list of folds
        (content,) = content
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"one table is needed, and this is a {kind}; {_EXPECTED}")  # noqa: TRY004 - the file
    sources = content.get("sources")
    if isinstance(sources, dict):  # as in `data/split/split.json`
        for source, table in sources.items():
            yield from ((f"{source}/{name}", subset) for name, subset in _json_pairs(table))
        return
    for key, value in content.items():
        if isinstance(value, list):
            yield from ((_require_name(name), _require_subset(key)) for name in value)
        else:
            yield _require_name(key), _require_subset(value)


def _csv_pairs(text: str) -> Iterator[tuple[str, Subset]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    delimiter = next((mark for mark in "\t;," if lines and mark in lines[0]), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    if not rows or len(rows[0]) < 2:
        raise ValueError(f"two columns are needed; {_EXPECTED}")
    name_column, subset_column = 0, 1
    if not any(map(parse_subset, rows[0])):
        header = [cell.lower() for cell in rows.pop(0)]
        subset_column = next((header.index(name) for name in _SUBSET_COLUMNS if name in header), 1)
        name_column = int(subset_column == 0)
    for row in rows:
        if len(row) <= max(name_column, subset_column):
            raise ValueError(f"the line {delimiter.join(row)!r} has no subset; {_EXPECTED}")
        yield row[name_column], _require_subset(row[subset_column])


def _require_subset(word: Any) -> Subset:
    subset = parse_subset(word) if isinstance(word, str) else None
    if subset is None:
        raise ValueError(f"{word!r} is no subset; the subsets are train, val and test")
    return subset


def _require_name(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is no name; {_EXPECTED}")  # noqa: TRY004 - the file is at fault
    return name.strip()
