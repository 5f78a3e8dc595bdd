"""The rules of the code that a program can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tests.scripts import load_script

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "slicewise"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = (
    "torch",
    "lightning_fabric",
    "monai",
    "kornia",
    "numpy",
    "scipy",
    "cv2",
    "PIL",
    "nibabel",
    "matplotlib",
    "streamlit",
    "fastapi",
    "kaggle",
)
COMPOSING = ("hydra", "omegaconf", "antlr4", "yaml", "importlib.metadata")
"""What composing a configuration takes; where it is kept in the workspace, none of it is imported"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count: a circle shows that something stands in the wrong module."""
    assert load_script("measure_code").import_cycles() == []


def test_the_floors_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["plan", "--help"],
        ["predict", "--help"],
        ["plan"],
        ["config"],
        ["status"],
        ["run", "--dry-run", "--mode", "train-eval"],
    ],
    ids=" ".join,
)
def test_what_does_no_work_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, os, contextlib, io\n"
        "from slicewise.cli.main import main\n"
        f"os.environ['SLICEWISE_WORKSPACE'] = {str(tmp_path)!r}\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main({words!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("words", [["plan"], ["run", "--dry-run"], ["config"]], ids=" ".join)
def test_a_configuration_that_is_kept_is_not_composed(words: list[str], tmp_path: Path) -> None:
    (tmp_path / ".slicewise").mkdir()
    code = (
        "import sys, os\n"
        "from slicewise.cli.main import main\n"
        f"os.environ['SLICEWISE_WORKSPACE'] = {str(tmp_path)!r}\n"
        f"assert main({words!r}) == 0\n"
        f"print([name for name in {(*HEAVY, *COMPOSING)!r} if name in sys.modules])\n"
    )
    *first, imported = run_python(code).splitlines()
    assert imported != "[]"
    *second, imported = run_python(code).splitlines()
    assert second == first
    assert imported == ("['yaml']" if words == ["config"] else "[]")


def test_the_help_imports_no_library() -> None:
    code = (
        "import sys\n"
        "from slicewise.cli.main import main\n"
        "main(['--help'])\n"
        "print({'pydantic', 'argparse', 'logging', 'dataclasses', 'inspect'} & {*sys.modules})\n"
    )
    assert run_python(code).splitlines()[-1] == "set()"


def test_the_files_of_a_data_set_are_listed_without_those_that_read_them(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "case_flair.nii.gz").touch()
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from slicewise.config.schema.sources import BratsSettings\n"
        "from slicewise.data.sources import open_source\n"
        "source = open_source(BratsSettings(kind='brats', name='brats'))\n"
        f"assert len(source.read_files(Path({str(tmp_path)!r}))) == 1\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    assert run_python(code).strip() == "[]"


def test_preprocessing_workers_never_load_torch() -> None:
    code = "import sys, slicewise.data.preprocess; print('torch' in sys.modules)"
    assert run_python(code).strip() == "False"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_modules_are_small_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a module begins with what it is for"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_functions_are_short(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    too_long = [node.name for node in functions if _statement_lines(node) > 40]
    assert too_long == []


def _statement_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
