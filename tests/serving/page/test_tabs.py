"""The tabs, by Streamlit's own test runner: what they show of the findings of different models."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from tests.serving.page.findings import INFO, FakeClient, picture, regions, volume

from slicewise.serving import API_URL_VARIABLE
from slicewise.serving.page import client, finding

PAGE = Path(finding.__file__).with_name("streamlit_app.py")
ShowPage = Callable[..., AppTest]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> ShowPage:
    """Return the page on a tab, with a finding in its address."""
    # The page becomes `__main__`, which processes that later tests spawn would import.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    def run(tab: str, known: dict[str, Any], info: dict[str, Any] = INFO, key: str | None = "abc") -> AppTest:
        fake = FakeClient(known, info)
        monkeypatch.setattr(client.ApiClient, "from_environment", classmethod(lambda _: fake))
        page = AppTest.from_file(str(PAGE), default_timeout=60)
        page.query_params["tab"] = tab
        if key is not None:
            page.query_params["finding"] = key
        page.run()
        assert not page.exception, page.exception[0].message
        return page

    return run


def text_of(page: AppTest) -> str:
    """Return all text of a page."""
    kinds = ("caption", "markdown", "error", "warning", "info")
    parts = [element.value for kind in kinds for element in page.get(kind)]
    return " ".join([*parts, *(element.proto.body for element in page.get("html"))])


@pytest.mark.parametrize("tab", ["Classification", "Segmentation", "Batch", "Patient"])
def test_the_notices_stand_on_every_tab(tab: str, show: ShowPage) -> None:
    text = text_of(show(tab, volume(), key=None))
    assert "Not a medical device" in text
    assert "trained on generated patients only" in text


def test_the_result_is_first_and_the_form_one_line(show: ShowPage) -> None:
    page = show("Classification", volume())
    (other, about) = page.expander
    assert (other.label, other.proto.expanded) == ("Examine something else", False)
    assert about.label == "About the model"
    assert not show("Classification", volume(), key=None).expander[0].label.startswith("Examine")


def test_an_address_that_is_gone_is_said_and_left(show: ShowPage) -> None:
    page = show("Segmentation", volume(), key="older")
    assert "no longer stored" in page.warning[0].value
    assert "finding" not in page.query_params


def test_an_example_gets_an_address_and_its_name(show: ShowPage) -> None:
    page = show("Patient", volume(), key=None)
    page.button_group[0].set_value("Example patient").run()
    page.button[0].click().run()
    assert page.query_params["finding"] == "abc"
    assert "Phantom_1</h2>" in text_of(page)


def test_the_probability_stands_on_a_scale_with_threshold_and_uncertain_zone(show: ShowPage) -> None:
    text = text_of(show("Classification", volume(verdict="uncertain", tumour_probability=0.52)))
    assert 'aria-label="probability 52.0%, threshold 50%, uncertain from 45% to 55%"' in text
    assert 'class="sw-verdict uncertain">Uncertain · 52%' in text
    assert "calibrated on the validation patients" in text
    assert "were not calibrated" in text_of(show("Classification", volume(calibrated=False)))


def test_slices_count_from_one(show: ShowPage) -> None:
    page = show("Classification", volume(3))
    (slider,) = page.slider
    assert (slider.min, slider.max, slider.value) == (1, 3, 3)
    assert "slices/2.png?layer=gradcam" in text_of(page)
    assert not show("Classification", volume(1)).slider
    assert "3 of 3" in [metric.value for metric in show("Segmentation", volume(3)).metric]


@pytest.mark.parametrize(
    ("tab", "task", "said"),
    [
        ("Classification", "segmentation", "gives no verdict"),
        ("Segmentation", "classification", "no outline"),
    ],
)
@pytest.mark.parametrize("kind", [volume, picture])
def test_a_task_that_the_model_lacks_is_said(
    kind: Any, tab: str, task: str, said: str, show: ShowPage
) -> None:
    missing: dict[str, Any] = {
        "classification": {"label": None, "verdict": None, "tumour_probability": None},
        "segmentation": {"tumour_ml": None, "lesions": {}, "overlay_png": None, "largest_slice": None},
    }
    (absent,) = {"segmentation", "classification"} - {task}
    known = kind(**{"tasks": [task], **missing[absent]})
    info = INFO | {"tasks": [task]}
    assert said in text_of(show(tab, known, info))
    show("Patient", known, info)


def test_each_region_has_its_volume_colour_and_threshold(show: ShowPage) -> None:
    page = show("Segmentation", regions())
    assert [(each.label, each.value) for each in page.metric][:2] == [
        ("Whole tumour", "1.2 ml"),
        ("Tumour core", "–"),
    ]
    assert "probability of 40% for whole tumour and 50% for tumour core on" in text_of(page)
    text = text_of(show("Patient", regions()))
    assert '<td>Whole tumour</td><td class="number">1.2 ml</td><td class="number">1</td>' in text


def test_classes_that_exclude_each_other_have_no_threshold(show: ShowPage) -> None:
    assert "its most probable class" in text_of(show("Segmentation", regions(mask_exclusive=True)))


def test_several_classes_of_pictures_are_bars(show: ShowPage) -> None:
    shares = {"none": 0.1, "glioma": 0.2, "pituitary": 0.7}
    said = {"label": "pituitary", "verdict": "pituitary", "tumour_probability": None, "class_threshold": None}
    known = picture(class_probabilities=shares, uncertain_band=None, **said)
    page = show("Classification", known, INFO | {"class_names": [*shares]})
    text = text_of(page)
    assert "Tells none, glioma and pituitary apart" in text
    assert "Pituitary · 70%" in text
    assert "The verdict is the most probable class" in text


def test_warnings_stand_above_the_result(show: ShowPage) -> None:
    page = show("Classification", volume(warnings=["the file names belong to different patients (A, B)"]))
    assert [each.value for each in page.warning] == ["The file names belong to different patients (A, B)"]


def test_as_what_series_were_read_is_said_and_is_no_warning(show: ShowPage) -> None:
    notes = ['t1: series 2 "AX_T1", 9 slices', "1 of 9 slices are missing"]
    page = show("Patient", volume(file_notes=notes, warnings=notes[1:]))
    assert [each.value for each in page.warning] == ["1 of 9 slices are missing"]
    assert page.caption[0].value == 't1: series 2 "AX\\_T1", 9 slices'


def test_a_truth_is_compared(show: ShowPage) -> None:
    scores = {"tumour": {"dice": 0.8125, "iou": 0.684}}
    text = text_of(show("Patient", volume(truth={"dice": 0.8125, "iou": 0.684, "by_class": scores})))
    assert '<td>Tumour</td><td class="number">0.812</td><td class="number">0.684</td>' in text


def test_a_batch_is_one_table_and_its_failures_a_list(show: ShowPage) -> None:
    page = show("Batch", picture(), key=None)
    page.file_uploader[0].set_value(
        [("a.png", b"x", "image/png"), ("b.png", b"damaged", "image/png"), ("c.dcm", b"x", "")]
    ).run()
    page.button[0].click().run()
    assert not page.exception
    (table,) = page.dataframe
    assert table.value["name"].tolist() == ["a.png"]
    assert [each.value.split(" – ")[0] for each in page.error] == ["**b.png**", "**c.dcm**"]
    assert "DICOM series" in page.error[1].value


def test_unsupported_files_get_a_sentence_and_no_button(show: ShowPage) -> None:
    page = show("Classification", volume(), key=None)
    page.file_uploader[0].set_value([("scan.dcm", b"x", ""), ("notes.txt", b"x", "text/plain")]).run()
    assert [each.value.split()[0] for each in page.error] == ["scan.dcm", "notes.txt"]
    assert not page.button


def test_the_sequence_of_a_picture_can_be_chosen(show: ShowPage) -> None:
    page = show("Classification", picture(), key=None)
    page.file_uploader[0].set_value([("head.png", b"x", "image/png")]).run()
    (choice,) = page.selectbox
    assert choice.options == ["not known", "T1", "T1 with contrast", "T2", "FLAIR"]
    choice.set_value("t2").run()
    page.button[0].click().run()
    assert "head</h2>" in text_of(page)
    fake: Any = client.ApiClient.from_environment()
    assert fake.sent == [(["file"], "t2")]


def test_an_api_that_is_down_is_said_in_words(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_URL_VARIABLE, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    page = AppTest.from_file(str(PAGE), default_timeout=30).run()
    assert not page.exception
    assert "Not a medical device" in text_of(page)
    assert "does not respond" in page.error[0].value
