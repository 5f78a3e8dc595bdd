import pytest
import torch
from torch import Tensor

from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.inference.ensemble import TTATransform, coverage, tta_transforms


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
    ("inference", "expected"),
    [
        (InferenceSettings(), [TTATransform()]),
        (InferenceSettings(flips=True), [TTATransform(), TTATransform(flipped=True)]),
        (
            InferenceSettings(rotation=10),
            [TTATransform(), TTATransform(degrees=10), TTATransform(degrees=-10)],
        ),
        (
            InferenceSettings(flips=True, rotation=5),
            [TTATransform(m, d) for m in (False, True) for d in (0, 5, -5)],
        ),
    ],
)
def test_the_views_of_a_way_of_asking(inference: InferenceSettings, expected: list[TTATransform]) -> None:
    assert list(tta_transforms(inference)) == expected


@pytest.mark.parametrize(
    "view",
    [
        TTATransform(),
        TTATransform(True),
        TTATransform(False, 90),
        TTATransform(True, -90),
        TTATransform(True, 180),
    ],
)
def test_right_angles_come_back_bit_by_bit(view: TTATransform) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(view.inverse(view.apply(images)), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("view", [TTATransform(False, 10), TTATransform(True, 10), TTATransform(True, -25)])
def test_what_is_seen_turned_comes_back_to_its_place(view: TTATransform, blob: Tensor) -> None:
    there = view.apply(blob)
    assert not torch.allclose(there, blob, atol=0.1)
    torch.testing.assert_close(view.inverse(there), blob, atol=0.03, rtol=0)


def test_a_corner_that_turns_away_has_no_say_there() -> None:
    square = torch.ones(3, 2, 64, 64)
    share = coverage(TTATransform(True, 30), square)
    assert share.shape == (1, 1, 64, 64)
    assert share[0, 0, 0, 0] == 0
    assert share[0, 0, 32, 32] == 1
    torch.testing.assert_close(coverage(TTATransform(True), square), torch.ones(1, 1, 64, 64))


def test_a_view_is_turned_counter_clockwise_about_the_middle(blob: Tensor) -> None:
    """The blob of the right, seen turned by 90 degrees, is at the top; mirrored first, at the bottom."""
    row, col = centre(blob[0, 0])
    assert (row, col) == pytest.approx((20, 44), abs=0.1)
    assert centre(TTATransform(False, 90).apply(blob)[0, 0]) == pytest.approx((63 - col, row), abs=0.1)
    assert centre(TTATransform(True, 90).apply(blob)[0, 0]) == pytest.approx((col, row), abs=0.1)
    assert torch.equal(TTATransform(True).apply(blob), blob.flip(-1))
