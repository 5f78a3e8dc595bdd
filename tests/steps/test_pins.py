"""Editing what a step computes forces the question: is it still the same output?"""

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tests.scripts import ROOT, load_script

Seen = Callable[[Path], set[str]]


@pytest.fixture(scope="module")
def pin_steps() -> ModuleType:
    return load_script("pin_steps")


@pytest.fixture(scope="module")
def digests(pin_steps: ModuleType) -> dict[str, str]:
    found: dict[str, str] = pin_steps.digests()
    return found


@pytest.fixture(scope="module")
def seen(pin_steps: ModuleType, digests: dict[str, str]) -> Seen:
    """Return a function that returns the steps that see a change of the source."""
    return lambda source: {step for step, now in pin_steps.digests(source).items() if now != digests[step]}


def test_the_source_behind_each_step_is_the_pinned_one(digests: dict[str, str]) -> None:
    pinned = json.loads((ROOT / "tests" / "steps" / "pins.json").read_text())
    changed = [step for step, digest in digests.items() if pinned.get(step) != digest]
    assert not changed, (
        f"the code behind {', '.join(changed)} changed. Does the same configuration still give the same "
        "output? If not, raise the step's version (for other slices, FORMAT of the store too). Then run "
        "scripts/utils/pin_steps.py"
    )


MUTATIONS = {
    "workflow/participants.py:split_source": {"download", "preprocess", "split"},
    "workflow/slices.py:open_cases": {"preprocess", "split", "train", "evaluate"},
    "data/store.py:write": {"preprocess", "train", "evaluate"},
    "data/cases.py:from_json": {"download", "preprocess", "split"},
    "data/duplicates.py:group_near_duplicates": {"download"},
    "data/loading/loader.py:sample_epoch": {"train"},
    "workflow/settings.py:select_settings": {"preprocess", "split", "train", "evaluate", "cross_validation"},
    "models/multitask.py:decode": {"train", "evaluate"},
    "imaging/intensity.py:compute_scaling": {"preprocess"},
    "reporting/report.py:to_html": {"report"},
}
"""Functions of the source, and the steps that must see a change of them."""


@pytest.mark.parametrize("place", MUTATIONS)
def test_a_change_of_what_decides_an_output_is_seen(
    pin_steps: ModuleType, seen: Seen, tmp_path: Path, place: str
) -> None:
    source = _copy(pin_steps, tmp_path)
    name, function = place.split(":")
    _change(source / "slicewise" / name, function)

    assert MUTATIONS[place] <= seen(source)


def test_labels_and_templates_count_and_what_only_tells_or_estimates_does_not(
    pin_steps: ModuleType, seen: Seen, tmp_path: Path
) -> None:
    source = _copy(pin_steps, tmp_path)
    for name in ("core/console.py", "core/errors.py", "workflow/demand.py", "engine/runner.py"):
        _append(source / "slicewise" / name)
    assert seen(source) == set()

    _append(source / "slicewise/reporting/templates/style.css")
    assert seen(source) == {"report"}
    _append(source / "slicewise/domain/labels.py")
    assert seen(source) >= {"preprocess", "split", "train", "evaluate"}


def test_imports_inside_functions_and_of_modules_from_packages_are_followed(
    pin_steps: ModuleType, tmp_path: Path
) -> None:
    files = {
        "steps/one.py": "def f():\n    from slicewise.data import two, name\n",
        "data/__init__.py": "name = 1\n",
        "data/two.py": "import slicewise.core.three\n",
        "core/three.py": "from slicewise.core.console import progress\nimport json\n",
        "core/console.py": "",
        "core/four.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "slicewise" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    found = {
        path.relative_to(tmp_path / "slicewise").as_posix()
        for path in pin_steps.source_files("one", tmp_path)
    }
    assert found == {"steps/one.py", "data/__init__.py", "data/two.py", "core/three.py"}
    with pytest.raises(FileNotFoundError, match="fix STEPS"):
        pin_steps.source_files("two", tmp_path)


def test_every_module_that_is_set_apart_exists(pin_steps: ModuleType) -> None:
    assert all(pin_steps._file(name, pin_steps.SOURCE) for name in pin_steps.EXCLUDED)


def test_comments_and_docstrings_do_not_count_but_code_does(pin_steps: ModuleType) -> None:
    first = pin_steps.code_without_docs('"""One."""\ndef f(x):\n    """Two."""\n    return x + 1  # three\n')

    assert pin_steps.code_without_docs('"""Uno."""\n\n\ndef f(x):\n    return x + 1\n') == first
    assert pin_steps.code_without_docs("def f(x):\n    return x + 2\n") != first


def _copy(pin_steps: ModuleType, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pin_steps.SOURCE, tmp_path / "src"))


def _change(path: Path, function: str) -> None:
    """Let a function do one thing more."""
    tree = ast.parse(path.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function]
    assert found, f"{path} has no {function}"
    found[0].body.append(ast.Pass())
    path.write_text(ast.unparse(tree))


def _append(path: Path) -> None:
    with path.open("a") as stream:
        stream.write("\nextra = {}\n")
