"""Editing what a step computes forces the question: is it still the same output?"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pin_steps() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pin_steps", ROOT / "scripts" / "utils" / "pin_steps.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_source_behind_each_step_is_the_pinned_one(pin_steps: ModuleType) -> None:
    pinned = json.loads((ROOT / "tests" / "steps" / "pins.json").read_text())
    changed = [step for step, digest in pin_steps.digests().items() if pinned.get(step) != digest]
    assert not changed, (
        f"the code behind {', '.join(changed)} changed. Does the same configuration still give the same "
        "output? If not, raise the step's version (for other slices, FORMAT of the store too). Then run "
        "scripts/utils/pin_steps.py"
    )


@pytest.mark.parametrize(
    ("step", "names"),
    [
        ("download", {"data/check.py", "data/index.py"}),
        ("preprocess", {"data/cohort.py"}),
        ("train", {"data/stored.py", "data/loader.py", "steps/slices.py"}),
        ("evaluate", {"steps/checkpoints.py"}),
    ],
)
def test_what_chooses_and_reads_the_data_of_a_step_is_behind_it(
    pin_steps: ModuleType, step: str, names: set[str]
) -> None:
    behind = {
        path.relative_to(pin_steps.SOURCE).as_posix() for path in pin_steps._files(pin_steps.BEHIND[step])
    }
    assert names <= behind


def test_comments_and_docstrings_do_not_count_but_code_does(pin_steps: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('"""One."""\ndef f(x):\n    """Two."""\n    return x + 1  # three\n')
    first = pin_steps._code(path)
    path.write_text('"""Uno."""\n\n\ndef f(x):\n    return x + 1\n')
    assert pin_steps._code(path) == first
    path.write_text("def f(x):\n    return x + 2\n")
    assert pin_steps._code(path) != first
