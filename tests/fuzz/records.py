"""Targets: the JSON records of a workspace."""

import contextlib
import io
from pathlib import Path
from typing import Any

from tests.fuzz.seeds import as_json

from slicewise.cli import status
from slicewise.core.files import parse_json, read_json
from slicewise.core.hashing import digest
from slicewise.data.index import CaseIndex
from slicewise.data.split.assignment import Split
from slicewise.data.store import FORMAT, StoredCase
from slicewise.demo.state import DemoState, Service, read_state, write_state
from slicewise.engine.clean import clean
from slicewise.engine.receipt import RECEIPT_NAME, FileChecksum, Identity, Receipt
from slicewise.engine.step import Outcome, Step
from slicewise.engine.workspace import StoredStep, Workspace

STEP = StoredStep("step", {"out": "results/out"})


def read_receipt(data: bytes, folder: Path) -> None:
    """Read the receipt of an output, check its files, print the status and put the output on the shelf."""
    workspace = Workspace(folder / "w")
    home = workspace.home(STEP.homes["out"])
    home.mkdir(parents=True, exist_ok=True)
    (home / "a.txt").write_bytes(b"a")
    (home / RECEIPT_NAME).write_bytes(signed(data))
    receipt = workspace.home_receipt(STEP)
    if receipt is None:
        return
    output = workspace.find(STEP, receipt.fingerprint)
    if output is not None:
        list(workspace.faults(output))
    with contextlib.redirect_stdout(io.StringIO()):
        status.execute(_arguments(workspace.root))
    workspace._set_aside(STEP, receipt.fingerprint)
    clean(workspace, [Step("step", lambda _: Outcome(), lambda _: {}, homes=STEP.homes)])


def signed(data: bytes) -> bytes:
    """Return a changed receipt with the matching fingerprint and digest, as an attacker could."""
    try:
        value = parse_json(data)
        value["fingerprint"] = digest(value["identity"])
        value.pop("digest", None)
        value["digest"] = digest(value)
        return as_json(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return data


def receipts() -> list[bytes]:
    seal = FileChecksum(1, 0, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
    identity = Identity("step", 1, {"a.b": 1.5}, {"before": "f"}, {"x": {"y": "z"}})
    receipt = Receipt(identity, {"out": {"a.txt": seal}}, {"data/b.txt": seal}, {"before": "p"}, "q")
    return [signed(as_json(_tree(receipt)))]


def _tree(receipt: Receipt) -> dict[str, Any]:
    from dataclasses import asdict

    return {"fingerprint": receipt.fingerprint, **asdict(receipt)}


def read_index(data: bytes, folder: Path) -> None:
    path = folder / "index.json"
    path.write_bytes(data)
    index = CaseIndex.read(path, folder)
    index.changed_files()
    index.report()


def indices() -> list[bytes]:
    case = {
        "source": "s",
        "patient": "p",
        "case": "c",
        "group": "p",
        "kind": "brats",
        "label": None,
        "modalities": ["flair"],
        "images": {"p/flair.nii": 5},
        "masks": {"p/seg.nii": 5},
    }
    problem = {"path": "data/x", "what": "odd", "severity": "warning"}
    value = {
        "format": 2,
        "roots": {"s": "data/s"},
        "known": {"s": ["p"]},
        "cases": [case],
        "problems": [problem],
    }
    return [as_json(value)]


def read_split(data: bytes, folder: Path) -> None:
    path = folder / "split.json"
    path.write_bytes(data)
    Split.from_json(read_json(path))


def splits() -> list[bytes]:
    subsets = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    fractions = {"train": 0.7, "val": 0.15, "test": 0.15, "folds": 0, "fold": 0}
    return [as_json({"seed": 1, "fractions": fractions, "counts": {}, "sources": {"s": subsets}})]


def read_entry(data: bytes, folder: Path) -> None:
    import numpy as np

    np.save(folder / "images.npy", np.zeros((2, 1, 4, 4), np.float16))
    np.save(folder / "masks.npy", np.zeros((2, 4, 4), np.uint8))
    (folder / "entry.json").write_bytes(data)
    case = StoredCase.open(folder, "s/c")
    assert case.images.shape == (2, 4, 4, 4)
    assert case.masks.shape == (2, 4, 4)
    case.read([0])


def entries() -> list[bytes]:
    value = {
        "format": FORMAT,
        "source": "s",
        "patient": "p",
        "case": "c",
        "group": "p",
        "channels": ["t1", "t1ce", "t2", "flair"],
        "presence": [True, False, False, False],
        "has_mask": True,
        "pixel_mm": 1.0,
        "slice_mm": 1.0,
        "geometry": {"shape": [3, 4, 4], "box": [0, 0, 4, 4]},
        "files": {
            "images.npy": {"bytes": 192, "sha256": "", "shape": [2, 1, 4, 4]},
            "masks.npy": {"bytes": 160, "sha256": "", "shape": [2, 4, 4]},
        },
        "indices": [0, 1],
        "labels": [0, 1],
        "seen": [0],
        "train": [0],
    }
    return [as_json(value)]


def read_array(data: bytes, folder: Path) -> None:
    """Read an entry whose array file was replaced by another of the same size."""
    import json

    value = json.loads(entries()[0])
    value["files"]["images.npy"]["bytes"] = len(data)
    (folder / "entry.json").write_bytes(as_json(value))
    (folder / "images.npy").write_bytes(data)
    (folder / "masks.npy").write_bytes(bytes(160))
    case = StoredCase.open(folder, "s/c")
    assert case.images.shape == (2, 4, 4, 4)


def arrays() -> list[bytes]:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 1, 4, 4), np.float16))
    return [buffer.getvalue()]


def read_states(data: bytes, folder: Path) -> None:
    """Read the state of a demo, a table of hashes and the record of a run."""
    home = folder / "w" / ".slicewise" / "demo"
    home.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(folder / "w")
    for path in (home / "demo.json", home / "step.json", workspace.state / "hashes.json"):
        path.write_bytes(data)
    (workspace.root / "pipeline_results.json").write_bytes(data)
    state = read_state(home)
    if state is not None:
        assert state.url.startswith("http://")
    probe = folder / "probe"
    probe.write_bytes(b"x")
    workspace.load_hashes().hash(probe)
    with contextlib.redirect_stdout(io.StringIO()):
        status.execute(_arguments(workspace.root))


def demo_states() -> list[bytes]:
    import tempfile

    services = tuple(Service(name, 9, "/healthz", "log", None, 0) for name in ("api", "page"))
    with tempfile.TemporaryDirectory() as folder:
        write_state(Path(folder), DemoState("builtin", None, "f", "c", services))
        demo = (Path(folder) / "demo.json").read_bytes()
    record = {
        "command": "slicewise run",
        "status": "failed",
        "started_at": "now",
        "total_duration_seconds": 1.0,
        "continue_with": "x",
    }
    return [demo, as_json({"/x": [1, 2, 3, "0" * 64]}), as_json(record), as_json({"fingerprint": "f"})]


def read_kaggle(data: bytes, folder: Path) -> None:
    """Read the note of a finished download, and Kaggle's file of credentials."""
    from slicewise.data.download.kaggle import RECEIPT, _read_kaggle_json, fetch_kaggle

    path = folder / "kaggle.json"
    path.write_bytes(data)
    (folder / "set").mkdir(exist_ok=True)
    (folder / "set" / RECEIPT).write_bytes(data)
    (folder / "set" / "x").write_bytes(b"x")
    fetch_kaggle("owner/set", folder / "set")
    _read_kaggle_json(path)


def notes() -> list[bytes]:
    both = {"username": "u", "key": "k" * 32, "dataset": "owner/set", "files": 1, "archive_bytes": 2}
    return [as_json(both)]


def _arguments(root: Path) -> Any:
    import argparse

    return argparse.Namespace(workspace=root, watch=False)
