#!/usr/bin/env python3
"""Write tests/steps/pins.json: a digest of the source behind each step, comments and docstrings excepted."""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "slicewise"
PINS = ROOT / "tests" / "steps" / "pins.json"

BEHIND = {
    "download": (
        "steps/download.py",
        "steps/sources.py",
        "data/sources",
        "data/check.py",
        "data/index.py",
        "data/duplicates.py",
        "imaging/phantom",
    ),
    "preprocess": (
        "steps/preprocess.py",
        "data/cohort.py",
        "data/preprocess.py",
        "data/reading.py",
        "data/picture.py",
        "imaging/intensity.py",
        "imaging/slicing.py",
        "imaging/volume.py",
        "imaging/nifti.py",
        "imaging/orientation.py",
        "imaging/geometry.py",
    ),
    "split": ("steps/split.py", "data/split.py", "data/cohort.py"),
    "train": (
        "steps/train.py",
        "steps/slices.py",
        "training",
        "models",
        "data/stored.py",
        "data/loader.py",
        "data/batches.py",
        "data/augment.py",
        "data/sampling.py",
    ),
    "evaluate": (
        "steps/evaluate.py",
        "steps/checkpoints.py",
        "steps/explanations.py",
        "steps/modalities.py",
        "steps/outputs.py",
        "evaluation",
        "inference",
    ),
    "report": ("steps/report.py", "reporting"),
    "cross_validation": ("steps/cross_validation.py", "evaluation"),
}
"""The modules and folders whose code decides the output of a step; `train` stands for the three stages."""

CODE = (".py", ".j2", ".css")
"""Endings of what decides an output; templates count as they stand."""


def digests() -> dict[str, str]:
    """Return one digest per step."""
    from slicewise.core.fingerprint import digest

    return {step: digest([_code(path) for path in _files(names)]) for step, names in BEHIND.items()}


def _files(names: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for name in names:
        path = SOURCE / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is gone; mend BEHIND in {__file__}")
        inside = sorted(file for file in path.rglob("*") if file.suffix in CODE)
        found += inside if path.is_dir() else [path]
    return found


def _code(path: Path) -> str:
    if path.suffix != ".py":
        return path.read_text(encoding="utf-8")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


if __name__ == "__main__":
    PINS.write_text(json.dumps(digests(), indent=2) + "\n", encoding="utf-8")
    print(f"wrote {PINS.relative_to(ROOT)}")
