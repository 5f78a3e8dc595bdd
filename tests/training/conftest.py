"""A tiny learnable data set and a small network to learn it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.config.schema.model import TaskName
from slicewise.core.hashing import digest
from slicewise.data.loading.dataset import SliceDataset
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES
from slicewise.imaging.slicing import Geometry
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.models.program import SerializedProgram, export_program
from slicewise.plots.curves import draw_curves
from slicewise.training import artifacts, learner
from slicewise.training.model_selection import Validation
from slicewise.training.stage import StageResult, train_stage

SIDE = 32
SMALL = (
    "seed=0",
    f"preprocessing.image_size={SIDE}",
    "model.encoder=tu-test_resnet",  # timm's own network for tests: 0.2 M parameters
    "model.encoder_weights=null",
    "model.encoder_depth=3",
    "model.head_hidden=8",
    "training.batch_size=8",
    "training.sample_predictions=0",
    "training.modality_dropout=0.1",
    "runtime.device=cpu",
    "runtime.num_threads=1",
)

MakeConfig = Callable[..., Config]
TrainOne = Callable[..., StageResult]


@dataclass
class Case:
    key: CaseKey
    stored_images: NDArray[np.float16]
    masks: NDArray[np.uint8]
    labels: NDArray[np.int8]
    included: NDArray[np.bool_]
    train: NDArray[np.bool_]
    presence: tuple[bool, bool, bool, bool]
    has_mask: bool
    image_size: int = SIDE
    channels = MODALITIES
    pixel_mm = None
    slice_mm = 1.0

    @property
    def geometry(self) -> Geometry:
        return Geometry((len(self.labels), SIDE, SIDE), 0, 0, SIDE, SIDE, ())

    @property
    def files(self) -> dict[str, dict[str, str]]:
        return {"images.npy": {"sha256": digest(self.stored_images.tolist())}}

    def read(self, rows: Sequence[int]) -> NDArray[np.float16]:
        images = np.zeros((len(rows), len(self.presence), SIDE, SIDE), np.float16)
        images[:, np.flatnonzero(self.presence)] = self.stored_images[rows]
        return images

    @property
    def group(self) -> str:
        return self.key.patient


CROWDED = 2
"""The patient of whom a round of training takes some slices only."""


def make_case(
    number: int, num_slices: int, slots: Sequence[int] = (0, 1, 2, 3), has_mask: bool = True
) -> Any:  # a stand-in for StoredCase
    """Noise with a bright square in half of the slices, in the patient's own place."""
    rng = np.random.default_rng([7, number])
    images = rng.normal(0, 0.5, (num_slices, len(slots), SIDE, SIDE))
    masks = np.zeros((num_slices, SIDE, SIDE), np.uint8)
    labels = (np.arange(num_slices) + number) % 2
    row, col = rng.integers(2, SIDE - 12, 2)
    masks[labels == 1, row : row + 10, col : col + 10] = 3
    images += 3.0 * (masks[:, None] > 0)
    crowded = np.arange(num_slices) < num_slices - 2 if number == CROWDED else np.ones(num_slices, bool)
    return Case(
        CaseKey("volumes" if has_mask else "pictures", f"P{number}", f"P{number}"),
        images.astype(np.float16),
        masks if has_mask else np.zeros_like(masks),
        labels.astype(np.int8),
        np.ones(num_slices, bool),
        crowded,
        (0 in slots, 1 in slots, 2 in slots, 3 in slots),
        has_mask,
    )


def make_set(first: int, num_patients: int, num_pictures: int) -> SliceDataset:
    volumes = [make_case(first + number, 8) for number in range(num_patients)]
    pictures = [make_case(first + 50 + number, 1, [3], has_mask=False) for number in range(num_pictures)]
    return SliceDataset({"volumes": volumes, "pictures": pictures})


@pytest.fixture(scope="session")
def train_set() -> SliceDataset:
    return make_set(0, num_patients=5, num_pictures=6)


@pytest.fixture(scope="session")
def val_set() -> SliceDataset:
    return make_set(100, num_patients=2, num_pictures=6)


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    @cache  # a configuration is frozen, and Hydra takes longer than the training of most tests
    def make(*overrides: str) -> Config:
        return compose([*SMALL, *overrides])

    return make


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the curves empty: to draw them takes longer than to train."""
    monkeypatch.setattr(artifacts, "draw_curves", lambda path, *_: path.touch())


_exported: dict[tuple[Any, ...], SerializedProgram | None] = {}


def _export_once(
    model: MultitaskModel, image_size: int, tasks: Sequence[TaskName]
) -> SerializedProgram | None:
    key = (repr(model.settings), repr(model.tasks), model.slot_tokens.values.shape, image_size, *tasks)
    if key not in _exported:
        _exported[key] = export_program(model, image_size, tasks)
    return _exported[key]


@pytest.fixture(autouse=True)
def exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export the program of a network once: training does not change it, and is shorter than the export."""
    monkeypatch.setattr(learner, "export_program", _export_once)


@pytest.fixture
def drawn(undrawn: None, drawn_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the curves."""
    monkeypatch.setattr(artifacts, "draw_curves", draw_curves)


def validated(data: SliceDataset, **metrics: float) -> Validation:
    """Metrics as `validate` gives them, of a model that has the same Dice in every patient."""
    patients = {(case.key.source, case.key.patient) for case in data.cases if case.has_mask}
    contributions = {"dice": [metrics["dice"]] * len(patients)} if "dice" in metrics else {}
    return Validation({"val_loss": 1.0, **metrics}, contributions)


@pytest.fixture(scope="session")
def train_one(make_config: MakeConfig, train_set: SliceDataset, val_set: SliceDataset) -> TrainOne:
    """Train one stage of the small configuration, changed by overrides."""

    def train(
        out_dir: Path,
        *overrides: str,
        name: str = "joint",
        start: Checkpoint | None = None,
        data: SliceDataset | None = None,
    ) -> StageResult:
        return train_stage(
            name,
            make_config(*overrides),
            data or train_set,
            val_set,
            out_dir,
            start,
            fingerprint="f",
        )

    return train
