import base64
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tests.reporting.conftest import Document, Made

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.domain.tables import PatientRow, read_rows, write_rows
from slicewise.evaluation.comparison import gain_text
from slicewise.reporting.report import data_uri, to_html
from slicewise.reporting.run import ResultFolders, RunInfo
from slicewise.reporting.sections import MAX_GRADCAM_PAGES, build_report

HOSTILE = "<script>alert('x')</script>\"><img src=http://example.org/x>"
REMOTE = re.compile(r"(?:https?:)?//")


def render_html(run: RunInfo, folders: ResultFolders) -> str:
    return to_html(build_report(run, folders))


@pytest.fixture
def evaluation(made: Made, tmp_path: Path) -> Path:
    """A copy of the evaluation that a test may change."""
    return Path(shutil.copytree(made.folders.evaluation, tmp_path / "evaluation"))


def test_the_page_needs_nothing_from_elsewhere(made: Made) -> None:
    page = Document(made.page)
    assert made.page.startswith("<!DOCTYPE html>")
    assert {"script", "link", "iframe", "object", "base"}.isdisjoint(name for name, _ in page.elements)
    for attribute in ("src", "href", "srcset", "style", "onclick", "onerror"):
        for name, found in page.elements:
            value = found.get(attribute, "")
            assert value.startswith("data:image/") or not REMOTE.search(value), name
    style = made.page.partition("<style>")[2].partition("</style>")[0]
    assert "max-width" in style
    assert "url(" not in style
    assert "@import" not in style


def test_every_picture_is_embedded_whole_and_described(made: Made) -> None:
    page = Document(made.page)
    pictures = page.all("img", "src")
    # Of the stages the one with several epochs; of the heat a page and the curves; no subsets in quick mode.
    assert len(pictures) == 1 + 4 + 1 + 1 + 3 + 1 + 1
    for uri in pictures:
        kind, _, content = uri.partition(";base64,")
        assert kind == "data:image/webp"
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
            picture.load()
            assert picture.width > 200
    assert all(page.all("img", "alt"))
    assert len(made.page) < 8_000_000


def test_every_link_leads_somewhere(made: Made) -> None:
    page = Document(made.page)
    names = {found["id"] for _, found in page.elements if "id" in found}
    links = page.all("a", "href")
    assert any(link.startswith("#") for link in links)
    for link in links:
        assert link[1:] in names if link.startswith("#") else (made.home / link).is_file(), link


def test_the_same_facts_give_the_same_bytes(made: Made) -> None:
    assert render_html(made.run, made.folders) == made.page


def test_it_shows_every_score_with_its_interval(made: Made) -> None:
    metrics = read_json(made.folders.evaluation / "metrics.json")
    text = " ".join(Document(made.page).text.split())
    for source, found in metrics["sources"].items():
        assert source in text
        assert f"{found['classification']['majority_accuracy']:.3f}" in text
        for section in filter(None, (found["segmentation"], found["classification"])):
            for score in section.values():
                if isinstance(score, dict) and score.get("value") is not None:
                    assert f"{score['value']:.3f}" in text
                    if score["interval"]:
                        assert "{:.3f} to {:.3f}".format(*score["interval"]) in text
    for row in read_rows(made.folders.evaluation / "patients.csv", PatientRow):
        assert row.patient in text


def test_it_says_where_it_comes_from(made: Made) -> None:
    text = " ".join(Document(made.page).text.split())
    assert made.run.config_fingerprint in text
    assert made.run.reproduce in text
    assert "seed 0, split.seed 0" in text
    assert "Split, drawn by split.seed=0: patients" in text
    assert f"torch {made.run.evaluation_step.versions['torch']}" in text
    assert "bootstrap_samples: 200" in text
    for step in made.run.steps:
        assert f"{step.name} {step.made_at} {step.seconds:.1f}" in text
        assert step.fingerprint[:12] in text


def test_names_from_foreign_files_are_text_and_nothing_else(
    made: Made, evaluation: Path, tmp_path: Path
) -> None:
    rows = read_rows(evaluation / "patients.csv", PatientRow)
    write_rows(evaluation / "patients.csv", [replace(row, patient=HOSTILE) for row in rows], PatientRow)
    failures = Path(shutil.copytree(made.folders.failures, tmp_path / "failures"))
    write_rows(failures / "patients.csv", [replace(rows[0], patient=HOSTILE)], PatientRow)
    gradcam = tmp_path / "gradcam"
    gradcam.mkdir()
    shutil.copy(made.folders.gradcam / "deletion_insertion.png", gradcam)
    shutil.copy(next(made.folders.gradcam.glob("page_*.png")), gradcam / "page_<b onclick='x'>.png")
    run = replace(made.run, data_name=HOSTILE, counts={HOSTILE: {"train": 1, "val": 1, "test": 1}})
    folders = replace(made.folders, evaluation=evaluation, failures=failures, gradcam=gradcam)
    text = render_html(run, folders)
    page = Document(text)
    assert "<script" not in text
    assert "<b " not in text
    assert all(uri.startswith("data:") for uri in page.all("img", "src"))
    assert page.text.count(HOSTILE) >= len(rows) + 3


def test_warnings_come_first_where_they_apply_and_only_there(made: Made, evaluation: Path) -> None:
    text = Document(made.page).text
    assert text.index("Synthetic data") < text.index("Dice per patient")
    assert "Only 1 test patient in phantom" in text
    assert "Only 2 test pictures in phantom_pictures" in text
    assert "fewer than evaluation.min_choice_patients (8)" in text
    metrics = read_json(evaluation / "metrics.json")
    for found in metrics["sources"].values():
        found["num_patients"] = 50
        found["classification"]["accuracy"]["value"] = 0.9
        found["classification"]["majority_accuracy"] = 0.6
    for found in metrics["decisions"].values():
        found["notes"] = []
    write_json(evaluation / "metrics.json", metrics)
    run = replace(trained_on(made.run), synthetic=False)
    page = Document(render_html(run, replace(made.folders, evaluation=evaluation)))
    assert "warning" not in page.all("div", "class")
    assert "hint" not in page.all("div", "class")
    assert "ynthetic" not in page.text.replace("synthetic: true", "")


def test_a_start_that_was_kept_and_weights_of_another_run_are_told(made: Made, evaluation: Path) -> None:
    folders = replace(made.folders, evaluation=evaluation)
    steps = tuple(
        replace(step, metrics={**step.metrics, "best_epoch": 0}) if step.name == "train.joint" else step
        for step in made.run.steps
    )
    training = {**made.run.config["training"], "start_from": "best_model.pth"}
    run = replace(made.run, steps=steps, config={**made.run.config, "training": training})
    text = Document(render_html(run, folders)).text
    assert "train.joint kept its initial weights" in text
    assert "Initialised with the weights of another run" in text
    assert re.search(r"train\.joint\s+cls_head\s+\d+\s+initial", text)
    assert "kept its initial weights" not in Document(render_html(trained_on(made.run), folders)).text


def trained_on(run: RunInfo) -> RunInfo:
    """The same run, had every stage kept an epoch of its own."""
    steps = [
        replace(step, metrics={**step.metrics, "best_epoch": 1}) if "best_epoch" in step.metrics else step
        for step in run.steps
    ]
    return replace(run, steps=tuple(steps))


def test_a_family_of_pictures_counts_once(made: Made, evaluation: Path) -> None:
    metrics = read_json(evaluation / "metrics.json")
    found = metrics["sources"]["phantom_pictures"]
    found["num_patients"] = found["num_slices"] = 25
    found["classification"]["accuracy"]["num_patients"] = 5
    write_json(evaluation / "metrics.json", metrics)
    text = Document(render_html(made.run, replace(made.folders, evaluation=evaluation))).text
    assert "Only 5 families of test pictures in phantom_pictures" in text


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, "none"),
        ({"component_share": 0.3}, "components from 30 % of the largest"),
        (
            {"min_component": 20, "gate": True},
            "components from 20 voxels, none in slices not labelled tumour",
        ),
    ],
)
def test_how_masks_were_cleaned_is_said(
    made: Made, evaluation: Path, chosen: dict[str, float], words: str
) -> None:
    metrics = read_json(evaluation / "metrics.json")
    metrics["decisions"]["phantom"].update(chosen)
    write_json(evaluation / "metrics.json", metrics)
    text = render_html(made.run, replace(made.folders, evaluation=evaluation))
    assert f">{words}</td>" in text


def test_accuracy_below_the_majority_answer_is_not_passed_over(made: Made, evaluation: Path) -> None:
    metrics = read_json(evaluation / "metrics.json")
    metrics["sources"]["phantom"]["classification"]["accuracy"]["value"] = 0.601
    metrics["sources"]["phantom"]["classification"]["majority_accuracy"] = 0.602
    write_json(evaluation / "metrics.json", metrics)
    text = Document(render_html(made.run, replace(made.folders, evaluation=evaluation))).text
    assert "No better than the majority class in phantom" in text
    assert "Accuracy 0.601; always predicting the more frequent class has 0.602." in text


def test_many_pages_of_heat_are_counted_but_not_all_shown(made: Made, tmp_path: Path) -> None:
    picture = next(made.folders.gradcam.glob("page_*.png"))
    shutil.copy(made.folders.gradcam / "deletion_insertion.png", tmp_path)
    for place in range(MAX_GRADCAM_PAGES + 3):
        shutil.copy(picture, tmp_path / f"page_{place:02d}.png")
    text = Document(render_html(made.run, replace(made.folders, gradcam=tmp_path))).text
    assert f"{MAX_GRADCAM_PAGES} of {MAX_GRADCAM_PAGES + 3} pages" in text
    assert text.count("saliency maps of each method") == MAX_GRADCAM_PAGES


def test_a_network_that_called_nothing_tumour_has_a_page_too(made: Made, tmp_path: Path) -> None:
    shutil.copy(next(made.folders.gradcam.glob("page_*.png")), tmp_path)
    folders = replace(made.folders, gradcam=tmp_path)
    pictures = Document(render_html(made.run, folders)).all("img", "src")
    assert len(pictures) == len(Document(made.page).all("img", "src")) - 1


def test_fewer_modalities_are_shown_where_they_were_asked_for(made: Made, tmp_path: Path) -> None:
    assert 'id="modalities"' not in made.page
    shutil.copy(made.folders.evaluation / "confusion_matrix.png", tmp_path / "phantom.png")
    page = render_html(made.run, replace(made.folders, ablations=tmp_path))
    assert 'id="modalities"' in page


def test_pictures_are_shrunk_but_never_enlarged(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (1200, 300), "red").save(path)
    for wide, expected in ((False, (1000, 250)), (True, (1200, 300))):
        content = data_uri(path, wide=wide).partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size == expected


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    for name in ("broken.png", "missing.png"):
        with pytest.raises(WorkspaceError, match=name):
            data_uri(tmp_path / name, wide=True)


def test_whole_patients_have_lines_of_their_own(made: Made, evaluation: Path) -> None:
    """The one test patient of the tiny run has a tumour; so there is nobody to tell apart."""
    assert "patients classified as tumour" in Document(made.page).text
    metrics = read_json(evaluation / "metrics.json")
    found = metrics["sources"]["phantom"]["patient_classification"]
    assert "each of 1 patient has a tumour" in Document(made.page).text
    estimate = {"value": 0.8125, "interval": [0.5, 1.0], "num_patients": 9}
    found.update(dict.fromkeys(("roc_auc", "accuracy"), estimate))
    write_json(evaluation / "metrics.json", metrics)
    text = Document(render_html(made.run, replace(made.folders, evaluation=evaluation))).text
    assert "ROC-AUC, patient level" in text
    assert "0.812 0.500 to 1.000" in re.sub(r"\s+", " ", text)


def test_why_whole_patients_have_no_interval_is_said(made: Made, evaluation: Path) -> None:
    metrics = read_json(evaluation / "metrics.json")
    why = "no interval: a class is that of too few patients"
    estimate = {"value": 1.0, "interval": None, "num_patients": 10, "note": why}
    metrics["sources"]["phantom"]["patient_classification"].update(roc_auc=estimate, accuracy=estimate)
    write_json(evaluation / "metrics.json", metrics)
    text = Document(render_html(made.run, replace(made.folders, evaluation=evaluation))).text
    assert "No interval: a class is that of too few patients" in text


def test_tumours_without_any_mask_stand_beside_hd95_which_leaves_them_out(
    made: Made, evaluation: Path
) -> None:
    metrics = read_json(evaluation / "metrics.json")
    metrics["sources"]["phantom"]["segmentation"]["empty_prediction"]["num_patients"] = 17
    write_json(evaluation / "metrics.json", metrics)
    text = Document(render_html(made.run, replace(made.folders, evaluation=evaluation))).text
    assert "missed entirely, patients 17" in " ".join(text.split())


def test_accuracy_and_dice_are_shown_before_and_after_the_choices(made: Made, evaluation: Path) -> None:
    metrics = read_json(evaluation / "metrics.json")
    found = metrics["decisions"]["phantom"]
    found["before"]["accuracy"]["value"], found["after"]["accuracy"]["value"] = 0.111, 0.222
    found["before"]["dice_per_patient"]["value"], found["after"]["dice_per_patient"] = 0.333, None
    write_json(evaluation / "metrics.json", metrics)
    text = Document(render_html(made.run, replace(made.folders, evaluation=evaluation))).text
    assert "0.111 → 0.222" in " ".join(text.split())
    assert "0.333 → –" in " ".join(text.split())


def test_the_page_says_what_joint_gained(made: Made) -> None:
    gains = made.run.evaluation_step.metrics["gains_of_joint"]
    assert gains
    text = " ".join(Document(render_html(made.run, made.folders)).text.split())
    for source, found in gains.items():
        assert f"{source}: {gain_text('joint', found)}" in text


def test_the_first_screen_holds_verdicts_and_one_figure_and_the_rest_is_folded(made: Made) -> None:
    page = made.page
    first, _, rest = page.partition("</section>")
    assert first.count('class="verdict"') == 2
    assert first.count("<img") == 1
    assert first.count("<table") == 0
    assert rest.count('<details class="section">') == page.count("<h2>") > 5
    assert "<details open" not in page


def test_every_cell_names_its_column_for_a_narrow_screen(made: Made) -> None:
    page = made.page
    head = re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', page)
    assert {*head} >= {"interval", "value"}
    labels = {*re.findall(r'data-label="([^"]+)"', page)}
    firsts = {*re.findall(r'<thead><tr><th scope="col"[^>]*>([^<]*)</th>', page)}
    assert {*head} - firsts <= labels
