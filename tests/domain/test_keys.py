import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.domain.keys import MAX_NAME, CaseKey, SliceKey, safe_name


@given(st.text(max_size=40))
def test_any_text_becomes_a_name_that_a_case_key_accepts(text: str) -> None:
    name = safe_name(text)
    assert CaseKey("brats", name, name).patient == name


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,20}", fullmatch=True))
def test_a_good_name_stays_as_it_is(text: str) -> None:
    assert safe_name(text) == text


@given(st.text(max_size=300))
def test_a_safe_name_is_short_and_stays_as_it_is(text: str) -> None:
    name = safe_name(text)
    assert len(name) <= MAX_NAME
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [("张伟", "Иванов"), ("Müller_1", "Möller_1"), ("患者_1", "患者_2"), ("a" * 120 + "1", "a" * 120 + "2")],
)
def test_names_that_differ_where_letters_are_lost_stay_apart(one: str, other: str) -> None:
    assert safe_name(one).lower() != safe_name(other).lower()


def test_one_name_written_in_two_ways_is_one() -> None:
    assert safe_name("Mu\u0308ller") == safe_name("M\u00fcller")
    assert safe_name("M\u00dcLLER").lower() == safe_name("m\u00fcller")


@pytest.mark.parametrize(
    ("text", "name"),
    [("gg (1)", "gg-1"), ("--", "unnamed"), ("x" * 100, "x" * 100), ("._hidden", "hidden")],
)
def test_plain_names_carry_no_digest(text: str, name: str) -> None:
    assert safe_name(text) == name


@pytest.mark.parametrize("bad", ["", "../up", "a/b", "a b", ".hidden"])
def test_names_that_could_leave_a_folder_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        CaseKey("brats", bad, "case")


def test_slice_keys_sort_by_patient_then_case_then_index() -> None:
    keys = [SliceKey("s", "p2", "c", 0), SliceKey("s", "p1", "c", 12), SliceKey("s", "p1", "c", 2)]
    assert [str(key) for key in sorted(keys)] == ["s/p1/c/002", "s/p1/c/012", "s/p2/c/000"]
    assert keys[0].case_key == CaseKey("s", "p2", "c")
