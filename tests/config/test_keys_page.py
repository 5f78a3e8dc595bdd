"""docs/reference/keys.md is what the schema says."""

import re
from types import ModuleType

import pytest
from tests.scripts import ROOT, load_script

from slicewise.config.compose import compose
from slicewise.config.export import flatten_config


@pytest.fixture(scope="module")
def list_keys() -> ModuleType:
    return load_script("list_keys")


def test_the_page_is_up_to_date(list_keys: ModuleType) -> None:
    page = (ROOT / "docs" / "reference" / "keys.md").read_text(encoding="utf-8")
    assert list_keys.page(compose([])) == page, "python scripts/utils/list_keys.py updates it"


def test_every_key_has_a_line_and_one_stage_stands_for_three(list_keys: ModuleType) -> None:
    page = list_keys.page(compose([]))
    for key in flatten_config(compose([])):
        stage = key.startswith("stages.")
        shown = f"stages.STAGE.{key.split('.', 2)[2]}" if stage else key
        shown = re.sub(r"^data\.sources\.\w+", "data.sources.SOURCE", shown)
        shown = re.sub(r"\.(sources|mask_loss)\.(volumes|pictures|bce|dice)$", r".\1", shown)
        shared = shown == "data.sources.SOURCE.classes"  # names in class_folders, a number in shapes
        assert page.count(f"| `{shown}` |") == (2 if shared else 1), key
    assert '| `training.precision` | `"auto"` | `auto`, `fp32`, `bf16`, `fp16`. Precision of the' in page


def test_what_the_schema_says_below_a_key_is_its_meaning(list_keys: ModuleType) -> None:
    field_docs = list_keys.field_docs()
    assert field_docs["Augmentation", "rotation"] == "Largest rotation, degrees."
    assert field_docs["LearningRates", "encoder"] == ""
