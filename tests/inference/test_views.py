import pytest
import torch
from torch import Tensor

from slicewise.config.schema.asking import PLAIN, Asking
from slicewise.inference.views import View, coverage, views


@pytest.fixture(scope="module")
def blob() -> Tensor:
    """A smooth bright place in the upper right of two channels, and a fainter one below it."""
    rows, cols = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    upper, lower = (torch.exp(-((rows - r) ** 2 + (cols - 44) ** 2) / 60) for r in (20, 42))
    return torch.stack([upper, 0.5 * lower])[None]


def centre(image: Tensor) -> tuple[float, float]:
    rows, cols = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    mass = image / image.sum()
    return float((rows * mass).sum()), float((cols * mass).sum())


@pytest.mark.parametrize(
    ("asking", "expected"),
    [
        (PLAIN, [View()]),
        (Asking(flips=True), [View(), View(mirrored=True)]),
        (Asking(rotation=10), [View(), View(degrees=10), View(degrees=-10)]),
        (Asking(flips=True, rotation=5), [View(m, d) for m in (False, True) for d in (0, 5, -5)]),
    ],
)
def test_the_views_of_a_way_of_asking(asking: Asking, expected: list[View]) -> None:
    assert list(views(asking)) == expected


@pytest.mark.parametrize("view", [View(), View(True), View(False, 90), View(True, -90), View(True, 180)])
def test_right_angles_come_back_bit_by_bit(view: View) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(view.back(view.of(images)), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("view", [View(False, 10), View(True, 10), View(True, -25)])
def test_what_is_seen_turned_comes_back_to_its_place(view: View, blob: Tensor) -> None:
    there = view.of(blob)
    assert not torch.allclose(there, blob, atol=0.1)
    torch.testing.assert_close(view.back(there), blob, atol=0.03, rtol=0)


def test_a_corner_that_turns_away_has_no_say_there() -> None:
    square = torch.ones(3, 2, 64, 64)
    share = coverage(View(True, 30), square)
    assert share.shape == (1, 1, 64, 64)
    assert share[0, 0, 0, 0] == 0
    assert share[0, 0, 32, 32] == 1
    torch.testing.assert_close(coverage(View(True), square), torch.ones(1, 1, 64, 64))


def test_a_view_is_turned_counter_clockwise_about_the_middle(blob: Tensor) -> None:
    """The blob of the right, seen turned by 90 degrees, is at the top; mirrored first, at the bottom."""
    row, col = centre(blob[0, 0])
    assert (row, col) == pytest.approx((20, 44), abs=0.1)
    assert centre(View(False, 90).of(blob)[0, 0]) == pytest.approx((63 - col, row), abs=0.1)
    assert centre(View(True, 90).of(blob)[0, 0]) == pytest.approx((col, row), abs=0.1)
    assert torch.equal(View(True).of(blob), blob.flip(-1))
