"""Scripts of scripts/utils, imported as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load_script(name: str) -> ModuleType:
    """Return scripts/utils/<name>.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / "utils" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
