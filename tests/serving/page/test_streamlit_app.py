"""The page, without a browser (Streamlit's own test runner) and with one."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from slicewise.config.compose import compose
from slicewise.demo.lifecycle import start_demo, stop_demo
from slicewise.demo.state import DemoState
from slicewise.serving import API_URL_VARIABLE
from slicewise.serving.page import inputs
from slicewise.serving.page.inputs import is_volume
from slicewise.serving.page.outputs import probability_curve

FINGERPRINT = "f" * 64
PAGE = Path(inputs.__file__).with_name("streamlit_app.py")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.mark.parametrize(("name", "volume"), [("x_t1.nii", True), ("X.NII.GZ", True), ("x.png", False)])
def test_volumes_are_known_by_their_endings(name: str, volume: bool) -> None:
    assert is_volume(name) == volume


def test_the_curve_leaves_gaps_where_there_is_no_brain() -> None:
    slices: list[dict[str, Any]] = [{"index": 0, "probability": None}, {"index": 1, "probability": 0.25}]
    chart = probability_curve(slices, threshold=0.5, current=1).to_dict()
    datasets = list(chart["datasets"].values())
    assert [{"slice": 0, "probability": None}, {"slice": 1, "probability": 0.25}] in datasets
    assert [{"x": 1}] in datasets


def test_a_single_slice_is_a_dot_and_no_empty_axis() -> None:
    chart = probability_curve([{"index": 0, "probability": 0.7}], threshold=0.5, current=0).to_dict()
    area = chart["layer"][0]
    assert area["encoding"]["x"]["scale"]["domain"] == [-0.5, 0.5]
    assert area["mark"]["point"]


@pytest.fixture
def shown(picture_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Return the page as it shows a volume of so many slices."""
    # The page becomes `__main__`, which processes that later tests spawn would import.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    def render_prediction(num_slices: int = 2, **said: Any) -> AppTest:
        page = AppTest.from_function(show_volume, args=(num_slices, picture_path.read_bytes(), said))
        page.run(timeout=60)
        assert not page.exception
        return page

    return render_prediction


@pytest.mark.parametrize("num_slices", [1, 2])
def test_a_finding_is_shown_however_few_slices_it_has(num_slices: int, shown: Callable[..., AppTest]) -> None:
    assert [slider.max for slider in shown(num_slices).slider] == [1] * (num_slices - 1)


@pytest.mark.parametrize(
    ("calibrated", "name", "words"),
    [
        (True, "Tumour probability", "(calibrated)"),
        (False, "Tumour probability (raw)", "(raw, not calibrated)"),
    ],
)
def test_a_raw_probability_is_called_raw(
    calibrated: bool, name: str, words: str, shown: Callable[..., AppTest]
) -> None:
    page = shown(calibrated=calibrated)
    assert name in [metric.label for metric in page.metric]
    assert any(words in caption.value for caption in page.caption)


@pytest.mark.parametrize(
    ("task", "measures", "layers"),
    [
        ("classification", ["Tumour volume", "Most tumour in slice"], ["Tumour", "Image"]),
        ("segmentation", ["Finding", "Tumour probability (raw)"], ["Evidence (Grad-CAM)", "Image"]),
    ],
)
def test_an_absent_task_is_not_shown(
    task: str, measures: list[str], layers: list[str], shown: Callable[..., AppTest]
) -> None:
    missing = {
        "classification": {"label": None, "tumour_probability": None},
        "segmentation": {"tumour_ml": None},
    }
    page = shown(tasks=[name for name in missing if name != task], **missing[task])
    assert [metric.label for metric in page.metric] == measures
    assert page.button_group[0].options == layers


def test_each_of_several_classes_has_its_volume_colour_and_threshold(shown: Callable[..., AppTest]) -> None:
    names = ["whole_tumour", "tumour_core"]
    page = shown(
        class_ml={"whole_tumour": 1.25, "tumour_core": None},
        mask_classes=names,
        class_mask_thresholds={"whole_tumour": 0.4},
    )
    assert [(each.label, each.value) for each in page.metric][-2:] == [
        ("Whole tumour", "1.2 ml"),
        ("Tumour core", "– ml"),
    ]
    caption = page.get("image")[0].proto.imgs[0].caption
    assert "Orange: whole tumour, green: tumour core." in caption
    assert any("probability of 40% for whole tumour, 50% for tumour core." in c.value for c in page.caption)


def test_several_classes_are_named_with_their_probabilities(shown: Callable[..., AppTest]) -> None:
    shares = {"glioma": 0.1, "none": 0.2, "pituitary": 0.7}
    said = {"label": "pituitary", "tumour_probability": None, "class_threshold": None}
    page = shown(tasks=["classification"], class_probabilities=shares, **said)
    assert not page.exception
    assert [metric.value for metric in page.metric] == ["Pituitary", "70.0%"]
    assert "The finding is the most probable class (raw, not calibrated)." in page.caption[-2].value


def test_the_warning_stands_above_the_finding(shown: Callable[..., AppTest]) -> None:
    page = shown(warning="The network has seen generated patients only.")
    kinds = [element.type for element in page.main]
    assert page.warning[0].value == "The network has seen generated patients only."
    assert kinds.index("warning") == kinds.index("subheader") + 1
    assert not shown().warning


def test_what_is_unusual_about_the_files_is_a_warning_as_it_is(shown: Callable[..., AppTest]) -> None:
    notes = ["the file names belong to different patients (A, B)", "A_t1.nii: sent as t2"]
    page = shown(file_notes=notes)
    assert [warning.value for warning in page.warning] == notes
    assert not page.info


@pytest.mark.parametrize(
    ("layer", "threshold", "said"),
    [
        ("Tumour", 0.5, "Slice 0. Orange: the mask. Seen from the feet: R is the patient's right"),
        ("Evidence (Grad-CAM)", 0.5, "relative to this slice"),
        ("Evidence (Grad-CAM)", 0.8, "Below 80% no evidence is shown"),
    ],
)
def test_each_slice_says_what_is_drawn_and_which_side_is_right(
    layer: str, threshold: float, said: str, shown: Callable[..., AppTest]
) -> None:
    page = shown(class_threshold=threshold)
    page.button_group[0].set_value(layer).run(timeout=60)
    assert said in page.get("image")[0].proto.imgs[0].caption


def show_volume(num_slices: int, picture: bytes, said: dict[str, object]) -> None:
    """Stand for the page: Streamlit's test runner takes the source of this function and runs it alone."""
    from types import SimpleNamespace
    from typing import Any

    import streamlit as st

    from slicewise.serving.page.inputs import PREDICTION_KEY
    from slicewise.serving.page.outputs import render_prediction

    answer: dict[str, Any] = {
        "kind": "volume",
        "name": "scan.nii",
        "id": "a",
        "seconds": 0.1,
        "fingerprint": "f" * 64,
        "tasks": ["segmentation", "classification"],
        "note": None,
        "file_notes": [],
        "warning": None,
    }
    answer |= {"label": "tumour", "tumour_probability": 0.7, "tumour_ml": 1.0, "largest_slice": 0}
    answer |= {"class_threshold": 0.5, "mask_threshold": 0.5, "calibrated": False, "origin": "configured"}
    answer |= {"modalities": ["flair"], "num_slices": num_slices, "class_probabilities": {}}
    answer |= {"class_ml": {}, "mask_classes": [], "class_mask_thresholds": {}}
    answer["slices"] = [{"index": place, "probability": 0.7} for place in range(num_slices)]
    st.session_state[PREDICTION_KEY] = answer | said
    client: Any = SimpleNamespace(slice_png=lambda *_: picture, mask_nifti=lambda _: b"mask")
    render_prediction(client, {"notice": "Not a medical device."})


def test_an_api_that_is_down_is_said_in_words(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_URL_VARIABLE, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    page = AppTest.from_file(str(PAGE), default_timeout=30).run()
    assert not page.exception
    assert page.title[0].value == "SliceWise"
    assert "Not a medical device" in page.markdown[0].value
    assert "does not respond" in page.error[0].value


@pytest.fixture
def demo(
    checkpoint_path: Path, cases_dir: Path, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[DemoState]:
    changes = {"api_port": free_port(), "page_port": free_port(), "supervisor": "builtin"}
    changes |= {"startup_seconds": 90, "max_upload_mib": 8, "phantom_cases": 1}
    settings = compose([]).serving.model_copy(update=changes)
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(checkpoint_path, home / "best_model.pth")
    (home / "cases").symlink_to(cases_dir)
    config = compose(["runtime.device=cpu"]).model_copy(update={"serving": settings})
    yield start_demo(config, home, tmp_path / "logs", fingerprint=FINGERPRINT)
    stop_demo(home)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
def test_a_visitor_examines_a_case_and_a_picture(demo: DemoState, picture_path: Path) -> None:
    from playwright.sync_api import TimeoutError as NotSeen
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        hosts = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(demo.page_url)

        page.get_by_text("Phantom case").click()
        page.get_by_role("button", name="Examine").click()
        page.get_by_text("Tumour probability (raw)", exact=True).first.wait_for()
        assert page.get_by_text("Tumour volume", exact=True).is_visible()
        picture = page.locator('[data-testid="stImage"] img')
        picture.wait_for()
        overlay = picture.get_attribute("src") or ""
        page.get_by_text("Evidence (Grad-CAM)", exact=True).click()
        expect(picture).not_to_have_attribute("src", overlay, timeout=60_000)

        page.get_by_text("Your own MRI").click()
        page.locator("input[type=file]").set_input_files(picture_path)
        page.get_by_text(picture_path.name).first.wait_for()
        finding = page.get_by_text("Tumour share of the brain")
        deadline = time.monotonic() + 120
        while not finding.is_visible() and time.monotonic() < deadline:
            page.wait_for_load_state("networkidle")  # a click while the page redraws itself is lost
            page.get_by_role("button", name="Examine").click()
            with suppress(NotSeen):
                finding.wait_for(timeout=15_000)
        finding.wait_for()
        assert hosts == {"127.0.0.1"}
        browser.close()
