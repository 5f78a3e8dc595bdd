"""docs/howto/extend.md holds the text of the packages that are tested here."""

from pathlib import Path
from types import ModuleType

import pytest
from tests.scripts import load_script

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def include_code() -> ModuleType:
    return load_script("include_code")


def test_the_page_has_the_present_code(include_code: ModuleType) -> None:
    page = include_code.PAGE.read_text(encoding="utf-8")
    assert include_code.page() == page, "python scripts/utils/include_code.py updates it"


def test_the_page_has_every_extension(include_code: ModuleType) -> None:
    modules = {
        path for path in HERE.glob("*.py") if not path.name.startswith(("test_", "conftest", "__init__"))
    }
    included = {include_code.ROOT / name for name in include_code.included()}
    assert modules <= included
