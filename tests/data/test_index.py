import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.core.errors import WorkspaceError
from slicewise.data.cases import CaseFiles
from slicewise.data.index import CaseIndex
from slicewise.data.problems import Problem
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES


def write_case(root: Path, source: str, name: str) -> CaseFiles:
    folder = root / name
    folder.mkdir(parents=True)
    paths = [folder / f"{name}_{what}.nii.gz" for what in (*MODALITIES, "seg")]
    for number, path in enumerate(paths):
        path.write_bytes(bytes(number + 1))
    return CaseFiles(
        CaseKey(source, name, name), "brats", MODALITIES, tuple(paths[:4]), (paths[4],), None, name
    )


def make_index(workspace: Path) -> CaseIndex:
    roots = {"brats": workspace / "data/raw/brats", "mine": workspace.parent / "outside"}
    picture = roots["mine"] / "yes/Y 1.jpg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"12345")
    cases = [write_case(roots["brats"], "brats", name) for name in ("P2", "P1")]
    cases.append(
        CaseFiles(CaseKey("mine", "Y-1", "Y-1"), "class_folders", ("flair",), (picture,), (), 1, "family")
    )
    problems = [Problem(roots["brats"] / "P3", "no mask"), Problem(Path("/elsewhere/x"), "odd", "warning")]
    return CaseIndex.of(roots, cases, problems, {"brats": ["P9"], "phantom": ["V1"]})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    index = make_index(tmp_path / "work")
    for base in (Path(), tmp_path / "work"):
        index.write(tmp_path / "index.json", base)
        assert CaseIndex.read(tmp_path / "index.json", base) == index


@given(
    st.builds(
        Problem,
        st.text("abc/. é", min_size=1).map(Path),
        st.text(min_size=1),
        st.sampled_from(["error", "warning", "note"]),
    )
)
def test_json_gives_the_same_problem_back(problem: Problem) -> None:
    index = CaseIndex({}, (), (problem,))
    assert CaseIndex._from_json(index._to_json(Path()), Path()) == index


def test_cases_are_sorted_and_groups_known(tmp_path: Path) -> None:
    index = make_index(tmp_path / "work")
    assert [case.key.case for case in index.cases] == ["P1", "P2", "Y-1"]
    assert index.known == {"brats": ("P1", "P2", "P9"), "mine": ("family",), "phantom": ("V1",)}
    assert [case.key.case for case in index.of_source("mine")] == ["Y-1"]


def test_the_file_names_each_path_once_relative_with_its_size(tmp_path: Path) -> None:
    make_index(tmp_path / "work").write(tmp_path / "index.json", tmp_path / "work")
    value = json.loads((tmp_path / "index.json").read_text())
    assert value["roots"]["brats"] == "data/raw/brats"
    assert value["cases"][0]["images"]["P1/P1_t1.nii.gz"] == 1
    assert value["cases"][0]["masks"] == {"P1/P1_seg.nii.gz": 5}
    assert value["cases"][2]["images"] == {"yes/Y 1.jpg": 5}
    assert value["problems"][0]["path"] == "data/raw/brats/P3"


def test_a_moved_workspace_finds_its_files(tmp_path: Path) -> None:
    make_index(tmp_path / "work").write(tmp_path / "work/index.json", tmp_path / "work")
    (tmp_path / "work").rename(tmp_path / "moved")
    index = CaseIndex.read(tmp_path / "moved/index.json", tmp_path / "moved")
    assert index.changed_files() == ()
    assert all(path.is_file() for case in index.cases for path in case.files)


def test_changed_and_missing_files_are_named(tmp_path: Path) -> None:
    index = make_index(tmp_path / "work")
    first, second = index.cases[0].images[:2]
    first.write_bytes(b"longer than before")
    second.unlink()
    assert {(problem.path, problem.what.split()[0]) for problem in index.changed_files()} == {
        (first, "changed"),
        (second, "missing"),
    }


def test_the_report_counts_and_lists(tmp_path: Path) -> None:
    report = make_index(tmp_path / "work").report()
    assert "brats: 2 cases; 3 patients or picture families are known" in report
    assert "mine: 1 cases, 1 with a tumour" in report
    assert "1 x no mask" in report


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    case = write_case(tmp_path, "brats", "P1")
    with pytest.raises(ValueError, match="same key"):
        CaseIndex.of({}, [case, replace(case, group="other")])


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": 2}', '{"format": 1, "roots": 3}', "not json"])
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(WorkspaceError, match=r"index\.json is .*move it aside and run again"):
        CaseIndex.read(tmp_path / "index.json")


def test_an_index_made_by_hand_needs_neither_roots_nor_files(tmp_path: Path) -> None:
    case = CaseFiles(CaseKey("s", "p", "c"), "brats", ("t1",), (Path("/no/where.nii"),), (), None, "p")
    index = CaseIndex(known={"s": ("p",)}, cases=(case,))
    index.write(tmp_path / "index.json")
    assert CaseIndex.read(tmp_path / "index.json") == replace(index, roots={}, sizes={})
