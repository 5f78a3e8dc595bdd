"""The content of a workspace without what may differ between two runs, and whether it is complete."""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slicewise.config.compose import compose
from slicewise.core.errors import SliceWiseError
from slicewise.core.files import read_json
from slicewise.core.hashing import digest, hash_file
from slicewise.data.store import SliceStore
from slicewise.engine.receipt import RECEIPT_NAME, Receipt
from slicewise.models.safe_loading import load_safely
from slicewise.steps import pipeline

HOMES = tuple(home for step in pipeline(compose([])) for home in step.homes.values())
_TIME_KEYS = frozenset(
    {"seconds", "images_per_second", "resumed_from", "num_new", "num_reused", "page_bytes"}
)
"""Times, the length of the page that shows them, and the work that an earlier attempt had done."""
_RUN_KEYS = frozenset({"made_at", "memory_mib", "command"})
"""Facts about the run of each step in the report."""


def snapshot(root: Path) -> dict[str, str]:
    """Return a digest of every output file, and of the metrics of every step."""
    folders = [root / name for name in (*HOMES, "data/slices", "data/raw")]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    contents = {path.relative_to(root).as_posix(): _content(path) for path in files}
    steps = read_json(root / "pipeline_results.json")["steps"]
    return contents | {
        f"metrics of {name}": digest(_timeless(step["metrics"])) for name, step in steps.items()
    }


def _content(path: Path) -> str:
    if path.name == RECEIPT_NAME:
        receipt = Receipt.read(path.parent)
        if receipt is None:
            return "unreadable"
        product = "shows times" if path.parent.name == "report" else receipt.product
        return f"{receipt.fingerprint} {product}"
    if path.parent.name == "report" and path.name == "report.json":
        return digest(_timeless(read_json(path), _TIME_KEYS | _RUN_KEYS))
    if path.parent.name == "report":
        return "a page that shows report.json, figures, and when and how fast they were made"
    if path.suffix == ".pth":
        return digest(_timeless(load_safely(path)))
    if path.name == "history.csv":
        return digest([_timeless(row) for row in csv.DictReader(path.read_text().splitlines())])
    return hash_file(path)


def _timeless(value: Any, excluded: frozenset[str] = _TIME_KEYS) -> Any:
    """Return `value` with a digest for each tensor and without the excluded keys."""
    import torch

    if isinstance(value, torch.Tensor):
        exact = value.double() if value.is_floating_point() else value  # numpy has no bfloat16
        return [str(value.dtype), list(value.shape), hashlib.sha256(exact.numpy().tobytes()).hexdigest()]
    if isinstance(value, dict):
        return {str(key): _timeless(item, excluded) for key, item in value.items() if key not in excluded}
    if isinstance(value, list | tuple):
        return [_timeless(item, excluded) for item in value]
    return value


def unsound(root: Path) -> Iterator[str]:
    """Yield a message for every output folder and slice entry that is visible but incomplete."""
    for home in HOMES:
        if (root / home).exists():
            yield from _unsound_home(root, home)
    store = SliceStore(root / "data" / "slices")
    for folder in store.root.glob("*/[!.]*"):
        try:
            store.verify(folder.relative_to(store.root).as_posix())
        except SliceWiseError as error:
            yield str(error)


def _unsound_home(root: Path, home: str) -> Iterator[str]:
    receipt = Receipt.read(root / home)
    slot = next(slot for step in pipeline(compose([])) for slot, name in step.homes.items() if name == home)
    if receipt is None:
        yield f"{home} is there without a receipt"
        return
    sealed = {name: seal.sha256 for name, seal in receipt.files[slot].items()}
    files = [path for path in (root / home).rglob("*") if path.is_file() and path.name != RECEIPT_NAME]
    hashes = {path.relative_to(root / home).as_posix(): hash_file(path) for path in files}
    for name in sorted(sealed.keys() | hashes.keys()):
        if sealed.get(name) != hashes.get(name):
            yield f"{home}/{name} is not what its receipt says"


def leftovers(root: Path) -> list[str]:
    """Return the temporary files that a finished run has left."""
    patterns = (
        ".*.unfinished",
        ".partial-*",
        "*.partial",
        "*.part",
        ".slicewise/trash/*",
        ".slicewise/partial/*/*",
    )
    return sorted({path.relative_to(root).as_posix() for pattern in patterns for path in root.rglob(pattern)})


def read_events(path: Path) -> list[dict[str, str]]:
    """Return the events of the injector's log, whose last line may be cut."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]
