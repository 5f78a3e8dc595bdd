"""Files of a visitor, waiting, words, the data of the viewers, the summary."""

import csv
import io
import zipfile
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.serving.page.findings import FakeClient, picture, regions, volume

from slicewise.serving.page import batch, client, viewer, wording
from slicewise.serving.page.charts import slice_curve
from slicewise.serving.page.files import BatchItem, batch_items, case_name, explain_refusal
from slicewise.serving.page.form import find_problem
from slicewise.serving.page.summary import render_summary
from slicewise.serving.page.waiting import waiting_text


def zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.PNG", ""),
        ("x_t1.nii.gz", ""),
        ("series.zip", ""),
        ("IM0001", "DICOM series"),
        ("x.dcm", "DICOM series"),
        ("x.mgz", "convert it to NIfTI"),
        ("notes.txt", "neither a picture nor a volume"),
    ],
)
def test_a_refusal_names_the_file_and_the_way_out(name: str, said: str) -> None:
    reason = explain_refusal(name)
    assert said in reason
    assert not reason or reason.startswith(name)


def test_a_case_has_one_name() -> None:
    assert case_name(["BraTS_01_t1.nii.gz", "BraTS_01_flair.nii.gz"]) == "BraTS_01"
    assert case_name(["head.png"]) == "head"
    assert case_name(["flair.nii.gz"]) == "flair"
    assert case_name(["flair.nii.gz", "t1.nii.gz"]) == "Examination"


def test_problems_are_found_before_files_are_sent() -> None:
    twice = [("t1", ("a.nii", b"")), ("t1", ("b.nii", b""))]
    assert "sequence of each volume" in find_problem([("", ("a.nii", b""))], 1)
    assert "same sequence" in find_problem(twice, 1)
    assert "more than 1 MiB" in find_problem([("t1", ("a.nii", bytes(2 << 20)))], 1)
    assert find_problem([("t1", ("a.nii", b"x"))], 1) == ""


def test_a_batch_groups_the_volumes_of_a_case_and_unpacks_archives() -> None:
    members = {"set/1.png": b"1", "set/1_mask.png": b"m", "__MACOSX/x.png": b"", "P/P_t1.nii": b"t"}
    archive, series = zipped(members | {"P/P_t2.nii": b"t"}), zipped({"IM1": b"d", "IM2": b"d"})
    files = [("a.png", b"a"), ("many.zip", archive), ("ct.zip", series), ("bad.zip", b"no"), ("v.nii", b"v")]
    items = {item.name: item for item in batch_items(files, max_mib=1)}
    assert {name: [field for field, _ in item.files] for name, item in items.items()} == {
        "a.png": ["file"],
        "set/1.png": ["file"],
        "P": ["t1", "t2"],
        "ct.zip": ["file"],
        "bad.zip": [],
        "v.nii": [],
    }
    assert "damaged" in items["bad.zip"].problem
    assert "which sequence" in items["v.nii"].problem


def test_an_archive_that_unpacks_to_too_much_is_refused() -> None:
    (item,) = batch_items([("big.zip", zipped({"a.png": bytes(5 << 20)}))], max_mib=1)
    assert "4 MiB at once" in item.problem


def test_a_failure_has_its_name_once_and_no_markup() -> None:
    assert batch.describe_failure("set/a_b.png", "a_b.png is damaged") == "**set/a\\_b.png** – is damaged"
    assert batch.describe_failure("x 1.png", "X 1.png is damaged") == "**x 1.png** – is damaged"
    assert batch.describe_failure("$x$.zip", "$x$.zip: it is empty") == "**\\$x\\$.zip** – it is empty"
    assert (
        batch.describe_failure("b.png", "Try *again*: :red[x]")
        == "**b.png** – Try \\*again\\*: \\:red\\[x\\]"
    )


def test_the_table_and_the_masks_of_a_batch() -> None:
    known: Any = FakeClient(picture())
    items = [BatchItem("=a.png", [("file", ("=a.png", b"x"))]), BatchItem("c.txt", problem="No picture.")]
    results = [batch.examine(known, item) for item in items]
    rows = [*csv.DictReader(io.StringIO(batch.table_csv(results)))]
    assert (rows[0]["name"], rows[0]["verdict"], rows[0]["share"]) == ("'=a.png", "Tumour", "0.02")
    assert rows[1]["problem"] == "No picture."
    with zipfile.ZipFile(io.BytesIO(batch.zip_masks(results[:1] * 2))) as archive:
        assert archive.namelist() == ["=a_mask.png", "=a_2_mask.png"]


def test_waiting_says_what_for_since_when_and_the_place() -> None:
    started = datetime(2026, 1, 1, 12, 30, 5)
    text = waiting_text("Examining A", started, started + timedelta(seconds=8), 2)
    assert text == "Examining A · since 12:30:05 (8 s) · 2 before it in the queue"
    assert waiting_text("Examining A", started, started, 0).endswith("the model works on it")
    assert waiting_text("Examining A", started, started, None).endswith("(0 s)")


@pytest.mark.parametrize(
    ("status", "body", "headers", "said"),
    [
        (422, {"detail": "the file is cut"}, {}, "The file is cut"),
        (422, {"detail": "a.png is cut"}, {}, "a.png is cut"),
        (503, {"detail": "no more (serving.max_waiting); wait"}, {}, "No more; wait"),
        (503, {"detail": "it is full."}, {"retry-after": "9"}, "It is full. Try again in 9 seconds."),
        (503, {"detail": "4 wait; send it again in 4 s"}, {"retry-after": "4"}, "4 wait. Try again in 4 s"),
        (500, [], {}, "status 500"),
    ],
)
def test_problems_of_the_api_are_sentences(
    status: int, body: Any, headers: dict[str, str], said: str
) -> None:
    assert said in client.describe_problem(httpx.Response(status, json=body, headers=headers))


def test_words() -> None:
    assert [wording.percent(share) for share in (None, 0.004, 0.55, 0.999)] == ["–", "0.4%", "55%", "99.9%"]
    assert [wording.sequence(name) for name in ("t1ce", "flair", "red")] == [
        "T1 with contrast",
        "FLAIR",
        "Red",
    ]
    origin = "4 patients, fewer than evaluation.min_choice_patients (8)"
    assert wording.sentence(origin) == "4 patients, fewer than 8"
    assert (wording.slice_number(0), wording.slice_number(None)) == ("1", "–")


def test_a_viewer_gets_addresses_of_the_pages_own_server() -> None:
    data = viewer.volume_data(volume(3, truth={"dice": 1.0}))
    assert [image["label"] for image in data["images"]] == ["FLAIR", "T1"]
    assert data["images"][0]["url"] == "findings/abc/image/flair.nii.gz"
    assert (data["truth"], data["slice"]) == ("findings/abc/truth.nii.gz", 3)
    first, second = viewer.volume_data(regions())["classes"]
    assert (first["threshold"], second["threshold"]) == (0.4, 0.5)
    assert first["probability"].endswith("probability.nii.gz?class=whole_tumour")
    assert viewer.volume_data(regions(mask_exclusive=True))["classes"][0]["threshold"] is None
    assert viewer.picture_data(picture(tasks=["classification"]))["mask"] is None


def test_the_curve_has_gaps_and_counts_from_one() -> None:
    slices: list[dict[str, Any]] = [
        {"index": 0, "probability": None, "tumour_mm2": 0.0},
        {"index": 1, "probability": 0.2, "tumour_mm2": 150.0},
    ]
    chart = slice_curve(slices, 0.5, has_probability=True, has_area=True).to_dict()
    first = {"slice": 1, "probability": None, "area": 0.0}
    assert [first, {"slice": 2, "probability": 0.2, "area": 1.5}] in [*chart["datasets"].values()]
    single = slice_curve(slices[1:], None, has_probability=True, has_area=False).to_dict()
    assert len(single["layer"]) == 1


@pytest.mark.parametrize(
    "finding", [volume(), picture(), regions(), volume(1, tasks=["segmentation"], verdict=None)]
)
def test_the_summary_is_one_file_with_all_notices(finding: dict[str, Any]) -> None:
    text = render_summary(finding | {"warnings": ["the slices are <far> apart"]}, datetime(2026, 1, 1))
    assert "Not a medical device" in text
    assert "generated patients only" in text
    assert "The slices are &lt;far&gt; apart" in text
    assert "http" not in text


def test_the_viewer_is_shipped_with_its_licence() -> None:
    assert (viewer.ASSETS / "niivue.umd.js").stat().st_size > 2_000_000
    assert "BSD 2-Clause" in (viewer.ASSETS / "niivue.LICENSE").read_text(encoding="utf-8")
