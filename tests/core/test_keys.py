import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.core.keys import CaseKey, SliceKey, safe_name


@given(st.text(max_size=40))
def test_any_text_becomes_a_name_that_a_case_key_accepts(text: str) -> None:
    name = safe_name(text)
    assert CaseKey("brats", name, name).patient == name


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,20}", fullmatch=True))
def test_a_good_name_stays_as_it_is(text: str) -> None:
    assert safe_name(text) == text


@pytest.mark.parametrize("bad", ["", "../up", "a/b", "a b", ".hidden"])
def test_names_that_could_leave_a_folder_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        CaseKey("brats", bad, "case")


def test_slice_keys_sort_by_patient_then_case_then_index() -> None:
    keys = [SliceKey("s", "p2", "c", 0), SliceKey("s", "p1", "c", 12), SliceKey("s", "p1", "c", 2)]
    assert [str(key) for key in sorted(keys)] == ["s/p1/c/002", "s/p1/c/012", "s/p2/c/000"]
    assert keys[0].case_key == CaseKey("s", "p2", "c")
