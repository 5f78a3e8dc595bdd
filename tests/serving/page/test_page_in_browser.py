"""The page as a visitor sees it: every state on a desk, findings in the dark on a phone; by axe-core, too."""

import gzip
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import nibabel as nib
import numpy as np
import pytest

from slicewise.config.compose import compose
from slicewise.demo.lifecycle import start_demo, stop_demo
from slicewise.demo.state import DemoState

FINGERPRINT = "f" * 64
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WCAG_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def demo(
    checkpoint_path: Path, cases_dir: Path, tmp_path_factory: pytest.TempPathFactory, ports: list[int]
) -> Iterator[DemoState]:
    base = tmp_path_factory.mktemp("page")
    home = base / "home"
    home.mkdir()
    shutil.copy(checkpoint_path, home / "best_model.pth")
    (home / "cases").symlink_to(cases_dir)
    config = compose(
        [
            "runtime.device=cpu",
            "serving.supervisor=builtin",
            "serving.startup_seconds=90",
            "serving.max_upload_mib=8",
            "serving.phantom_cases=1",
            f"serving.api_port={ports[0]}",
            f"serving.page_port={ports[1]}",
        ]
    )
    yield start_demo(config, home, base / "logs", fingerprint=FINGERPRINT)
    stop_demo(home)


@pytest.fixture(scope="module")
def ports() -> list[int]:
    import socket

    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (first, second)]


class Visitor:
    """A browser on the page; `look` waits until it rests, checks it, and keeps a picture if asked to.

    The folder PAGE_SCREENSHOTS gets a picture of every state.
    """

    def __init__(self, page: Any, url: str, name: str) -> None:
        from axe_playwright_python.sync_playwright import Axe

        self.page, self.url, self._name, self._axe = page, url, name, Axe()
        self.hosts: set[str | None] = set()
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, request: Any) -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.hosts.add(urlsplit(request.url).hostname)
            self.requests.append(request.url)

    def rest(self) -> None:
        """Wait until Streamlit has run the script: a click while the page redraws itself is lost."""
        self.page.wait_for_timeout(200)
        self.page.locator("[data-test-script-state=notRunning]").wait_for()
        self.page.wait_for_timeout(100)

    def look(self, state: str) -> None:
        self.rest()
        if folder := os.environ.get("PAGE_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{state}-{self._name}.png", full_page=True)
        found = self._axe.run(self.page, options={"runOnly": WCAG_AA}).response["violations"]
        assert [(state, each["id"], [node["target"] for node in each["nodes"]]) for each in found] == []
        width = self.page.viewport_size["width"]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width, f"{state} is cut"
        for notice in ("Not a medical device", "generated patients only"):
            assert self.page.get_by_text(notice).first.is_visible()

    def open_tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()
        self.rest()

    def choose(self, *files: Path) -> None:
        self.page.locator("input[type=file]").first.set_input_files(files)
        self.rest()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()
        self.rest()

    def wait_for_viewer(self) -> Any:
        viewer = self.page.locator(".viewer[data-ready=true]")
        viewer.wait_for()
        return viewer


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Any, demo: DemoState, scheme: str, width: int) -> Iterator[Visitor]:
    page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page.set_default_timeout(90_000)
    yield Visitor(page, demo.url, f"{scheme}-{width}")
    page.close()


def files_to_send(folder: Path, picture: Path, volume: Path) -> dict[str, Path]:
    """Return what a visitor may choose, good and bad."""
    names = ("scan.dcm", "notes.txt", "many.zip")
    paths = {name: folder / name for name in names}
    paths["scan.dcm"].write_bytes(b"DICM")
    paths["notes.txt"].write_text("notes", encoding="utf-8")
    paths["P1_flair.nii.gz"] = Path(shutil.copy(volume, folder / "P1_flair.nii.gz"))
    paths["P1_seg.nii.gz"] = folder / "P1_seg.nii.gz"
    image: Any = nib.load(volume)
    lesion = (np.asarray(image.dataobj) > 600).astype(np.uint8)
    nib.save(nib.Nifti1Image(lesion, image.affine), paths["P1_seg.nii.gz"])
    with zipfile.ZipFile(paths["many.zip"], "w") as archive:
        archive.write(picture, "set/a.png")
        archive.writestr("set/broken.png", b"\x89PNG\r\n\x1a\n")
        archive.write(volume, "P1/P1_flair.nii.gz")
    return paths


def examine(demo: DemoState, picture: Path, volume: Path, truth: Path) -> dict[str, str]:
    """Return the keys of findings of the example, a picture and a volume with a truth."""
    with httpx.Client(base_url=demo.service("api").url, timeout=90) as client:
        volumes = {"flair": (volume.name, volume.read_bytes()), "truth": (truth.name, truth.read_bytes())}
        answers = {
            "patient": client.post("/cases/Phantom_10000/predict"),
            "picture": client.post("/predict", files={"file": (picture.name, picture.read_bytes())}),
            "truth": client.post("/patient/analyze", files=volumes),
        }
    return {name: answer.raise_for_status().json()["id"] for name, answer in answers.items()}


def test_what_is_drawn_in_the_dark_on_a_phone(
    browser: Any, demo: DemoState, tmp_path: Path, picture_path: Path, volume_path: Path
) -> None:
    paths = files_to_send(tmp_path, picture_path, volume_path)
    found = examine(demo, picture_path, paths["P1_flair.nii.gz"], paths["P1_seg.nii.gz"])
    with visiting(browser, demo, "dark", 390) as visitor:
        visitor.page.goto(visitor.url)
        visitor.page.get_by_role("tab", name="Patient").wait_for()
        visitor.look("start")
        visitor.choose(paths["scan.dcm"], paths["notes.txt"])
        visitor.look("refused")
        for name, tab in (
            *(("patient", tab) for tab in ("Patient", "Segmentation", "Classification")),
            *(("picture", "Classification"), ("truth", "Patient")),
        ):
            visitor.page.goto(f"{visitor.url}/?finding={found[name]}&tab={tab}")
            if tab == "Classification":
                visitor.page.locator(".sw-pictures img").first.wait_for()
            else:
                visitor.wait_for_viewer()
            visitor.look(f"{name}-{tab.lower()}")
        visitor.open_tab("Batch")
        visitor.look("batch-form")
        assert visitor.hosts == {"127.0.0.1"}
        assert visitor.errors == []


def test_every_state(
    browser: Any, demo: DemoState, tmp_path: Path, picture_path: Path, volume_path: Path
) -> None:
    paths = files_to_send(tmp_path, picture_path, volume_path)
    with visiting(browser, demo, "light", 1440) as visitor:
        page = visitor.page
        page.goto(visitor.url)
        page.get_by_role("tab", name="Patient").wait_for()
        visitor.look("start")
        see_refusals_and_a_picture(visitor, paths, picture_path)
        address = see_a_patient(visitor)
        see_a_batch(visitor, paths, picture_path)
        page.goto(f"{visitor.url}/findings/{address}/summary")
        page.get_by_role("heading", name="Phantom_10000").wait_for()
        assert page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n") == 1
        page.goto(f"{visitor.url}/?finding=unknown&tab=Patient")
        page.locator("[data-testid=stAlert]").wait_for()
        visitor.look("gone")
        see_a_truth(visitor, paths)
        assert visitor.hosts == {"127.0.0.1"}
        assert visitor.errors == []


def see_refusals_and_a_picture(visitor: Visitor, paths: dict[str, Path], picture: Path) -> None:
    page = visitor.page
    visitor.choose(paths["scan.dcm"], paths["notes.txt"])
    page.get_by_text("scan.dcm may be one slice of a DICOM series").wait_for()
    visitor.look("refused")
    page.goto(visitor.url)
    page.get_by_role("tab", name="Patient").wait_for()
    visitor.choose(picture)
    visitor.look("form")
    visitor.press("Examine")
    page.get_by_role("heading", name="head").wait_for()
    page.get_by_alt_text("Grad-CAM").or_(page.get_by_alt_text("No evidence is drawn")).first.wait_for()
    visitor.look("picture-classification")
    visitor.open_tab("Segmentation")
    visitor.wait_for_viewer()
    visitor.look("picture-segmentation")


def see_a_patient(visitor: Visitor) -> str:
    """Look at the example on three tabs; return the key of its finding."""
    page = visitor.page
    visitor.open_tab("Patient")
    panel = page.get_by_role("tabpanel", name="Patient")
    panel.get_by_text("Examine something else").click()
    panel.get_by_text("Example patient").click()
    visitor.rest()
    page.get_by_role("button", name="Examine", exact=True).click()
    page.get_by_role("heading", name="Phantom_10000").wait_for()
    page.get_by_text("Lesions").first.wait_for()
    visitor.wait_for_viewer()
    visitor.look("patient")
    address: str = page.url
    page.reload()
    page.get_by_role("heading", name="Phantom_10000").wait_for()
    assert page.get_by_role("tab", selected=True).inner_text() == "Patient"
    visitor.open_tab("Segmentation")
    use_the_viewer(visitor, visitor.wait_for_viewer())
    visitor.look("segmentation")
    visitor.open_tab("Classification")
    page.locator(".sw-pictures img").nth(1).wait_for()
    visitor.look("classification")
    return address.partition("finding=")[2].partition("&")[0]


def see_a_truth(visitor: Visitor, paths: dict[str, Path]) -> None:
    page = visitor.page
    panel = page.get_by_role("tabpanel", name="Patient")
    visitor.choose(paths["P1_flair.nii.gz"])
    panel.locator("input[type=file]").nth(1).set_input_files(paths["P1_seg.nii.gz"])
    visitor.rest()
    visitor.press("Examine")
    panel.get_by_text("Compared with the truth").wait_for()
    viewer = visitor.wait_for_viewer()
    assert "only the truth" in viewer.locator("[data-role=legend]").inner_text()
    assert_planes_meet_in_the_overlay(visitor, viewer)
    visitor.look("truth")


def assert_planes_meet_in_the_overlay(visitor: Visitor, viewer: Any) -> None:
    folder = f"{visitor.url}/findings/{visitor.page.url.partition('finding=')[2].partition('&')[0]}"
    shown = np.zeros(())
    for name in ("mask", "truth"):
        content = gzip.decompress(httpx.get(f"{folder}/{name}.nii.gz").raise_for_status().content)
        image = nib.as_closest_canonical(nib.Nifti1Image.from_bytes(content))
        shown = shown + np.asarray(image.dataobj)
    place = viewer.locator("[data-role=place]").inner_text()
    y, x = (int(word) - 1 for word in re.findall(r"\d+", place))
    assert shown[x, y, int(viewer.get_attribute("data-slice")) - 1] > 0


def use_the_viewer(visitor: Visitor, viewer: Any) -> None:
    """Slices, by button and by keyboard, need no request; a threshold has its volume at once."""
    page = visitor.page

    def role(name: str) -> Any:
        return viewer.locator(f"[data-role={name}]")

    place = int(viewer.get_attribute("data-slice"))
    visitor.requests.clear()
    role("previous").click()
    role("canvas").focus()
    page.keyboard.press("ArrowDown")
    assert int(viewer.get_attribute("data-slice")) == place - 2
    assert visitor.requests == []
    volumes = []
    for share in (1, 99):
        role("threshold").evaluate(
            f"(slider) => {{ slider.value = {share}; slider.dispatchEvent(new Event('input')) }}"
        )
        page.wait_for_timeout(300)
        volumes.append(float(role("volume").inner_text().removesuffix(" ml")))
    assert volumes[0] > volumes[1]
    for name, choice in (
        ("layer", "probability"),
        ("layer", "outline"),
        ("sequence", "t1"),
        ("view", "axial"),
    ):
        role(name).select_option(choice)
        page.wait_for_timeout(300)
    assert viewer.get_attribute("data-failed") is None


def see_a_batch(visitor: Visitor, paths: dict[str, Path], picture: Path) -> None:
    page = visitor.page
    visitor.open_tab("Batch")
    visitor.look("batch-form")
    visitor.choose(paths["many.zip"], picture, paths["notes.txt"])
    visitor.press("Examine all")
    page.get_by_role("button", name="Table (CSV)").wait_for()
    page.get_by_text("Not examined: 2").wait_for()
    visitor.look("batch")
    with page.expect_download() as download:
        page.get_by_role("button", name="Masks (ZIP)").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 3


def test_the_tabs_are_reached_by_keyboard(browser: Any, demo: DemoState) -> None:
    with visiting(browser, demo, "light", 1440) as visitor:
        page = visitor.page
        page.goto(visitor.url)
        page.get_by_role("tab", name="Classification").wait_for()
        visitor.rest()
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('role')") == "tab":
                break
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        visitor.rest()
        assert page.get_by_role("tab", selected=True).inner_text() == "Segmentation"
