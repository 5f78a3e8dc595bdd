import json
from pathlib import Path
from typing import Any

import pytest

from slicewise.core.errors import SplitError
from slicewise.data.split.split_file import read_split_file

WANTED = {"P1": "train", "P2": "val", "P 3": "test"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "patient,subset\nP1,train\nP2,val\nP 3,test\n"),
        ("a.csv", "\ufeffpatient;age;split\r\nP1;4;Training\r\n\r\nP2;5;Validation\r\nP 3;6;TEST\r\n"),
        ("a.tsv", "# mine\nP1\ttrain\nP2\tvalid\nP 3\ttesting\n"),
        ("a.csv", "set,file\ntrain,P1\ndev,P2\ntest,P 3\n"),
        ("a.csv", 'P1,train\nP2,val\n"P 3",test\nP1,train\n'),
        ("a.json", json.dumps(WANTED)),
        ("a.json", json.dumps({"training": ["P1"], "val": ["P2"], "test": ["P 3"]})),
        ("a.JSON", json.dumps([{"train": ["P1"], "val": ["P2"], "test": ["P 3"]}])),
    ],
)
def test_the_subset_of_each_name_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_split_file(tmp_path / name) == WANTED


def test_the_split_of_another_run_is_read(tmp_path: Path) -> None:
    table = {"seed": 0, "counts": {}, "sources": {"brats": {"train": ["P1"], "val": [], "test": ["P2"]}}}
    (tmp_path / "split.json").write_text(json.dumps(table), encoding="utf-8")
    assert read_split_file(tmp_path / "split.json") == {"brats/P1": "train", "brats/P2": "test"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "P1,train\nP1,test\n", "P1 is in both train and test"),
        ("a.csv", "P1,train\nP2,holdout\n", "'holdout' is no subset"),
        ("a.csv", "P1,test\nP2\n", "'P2' has no subset"),
        ("a.csv", "P1,train\n", "names no case for test"),
        ("a.csv", ",test\n", "a name for test is empty"),
        ("a.csv", "", "two columns are needed"),
        ("a.csv", "P1\nP2\n", "two columns are needed"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "[]", "one table is needed, and this is a list"),
        ("a.json", '[{"train": []}, {"train": []}]', "one table is needed"),
        ("a.json", '{"test": [1]}', "1 is no name"),
        ("a.json", '{"P1": "holdout"}', "'holdout' is no subset"),
        ("a.json", '{"P1": null}', "None is no subset"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, name: str, content: Any, said: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SplitError, match=said):
        read_split_file(tmp_path / name)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00P1,test")
    with pytest.raises(SplitError, match="cannot be read"):
        read_split_file(tmp_path / "a.csv")
