"""`Pipeline`: from files, arrays or stored slices to a `Prediction`.

Command line, API and evaluation predict through it, so a file has one prediction:

    pipeline = Pipeline.load("checkpoints/multitask_joint/best_model.pth")
    prediction = pipeline.predict("BraTS20_Training_001/")
    print(prediction.verdict, prediction.tumour_probability, prediction.volume_ml)
    prediction.save_mask(Path("masks"))
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from numpy.typing import NDArray

from slicewise.compute.device import DeviceName
from slicewise.config.schema import Evaluation
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles, require_readable
from slicewise.data.inputs import DefaultModalities, find_inputs
from slicewise.data.problems import Problem
from slicewise.data.store import StoredCase
from slicewise.domain.labels import Modality
from slicewise.imaging.slicing import SlicedCase, extract_slices
from slicewise.imaging.volume import Volume, volume_from_array
from slicewise.inference.operating_points import (
    InputKind,
    OperatingPoints,
    default_operating_points,
    find_operating_points,
)
from slicewise.inference.postprocess import Postprocessing
from slicewise.inference.prediction import Prediction
from slicewise.inference.predictor import Predictor
from slicewise.models.checkpoint import Checkpoint, load_checkpoint

Input = Path | str | CaseFiles | StoredCase | Volume | NDArray[Any]

_ENSEMBLE: Final = "every fold chose thresholds for its own model, and none were chosen for the ensemble"


class Pipeline(Predictor):
    """Preprocessing, model, test-time augmentation, calibration, thresholds and post-processing as one.

    See `Predictor` for what is not described here.

    Args:
        checkpoints: one or more.
        settings: batch size, and inference and points where they are not given.
        points: calibration, thresholds and post-processing.
        paths: of the checkpoint files.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        settings: Evaluation,
        *,
        device: DeviceName = "auto",
        backend: str = "torch",
        inference: InferenceSettings | None = None,
        points: OperatingPoints | None = None,
        paths: Sequence[Path] = (),
    ) -> None:
        super().__init__(
            checkpoints,
            device,
            backend=backend,
            inference=settings.inference if inference is None else inference,
            batch_size=settings.batch_size,
            names=[str(path) for path in paths],
        )
        self.paths = tuple(paths)
        self.points = points or default_operating_points(
            Postprocessing.configured(settings), "none were chosen"
        )

    @classmethod
    def load(
        cls,
        checkpoint: Path | str | Sequence[Path | str],
        *,
        device: DeviceName = "auto",
        backend: str = "torch",
        settings: Evaluation | None = None,
        **overrides: Any,
    ) -> Self:
        """Read a checkpoint, or several as an ensemble, and the operating points of its evaluation.

        These are read from the `calibration.json` beside the checkpoint, or in the results of the workspace
        around it; `points` says where they come from, or why there are none.

        Args:
            checkpoint: a `best_model.pth`, or several.
            device: where the models run.
            backend: what runs them.
            settings: the section `evaluation` for all that was not selected; by default that of configs/.
            overrides: keys of this section that hold whatever was selected: `class_threshold`,
                `mask_threshold`, `component_share`, `flips`, `rotation`, `mask_smoothing`, `class_smoothing`.

        Raises:
            CheckpointError: a file is missing, damaged or no checkpoint, or the inputs of the models differ.
            ConfigError: a key or a value of `overrides` is unknown or invalid.
            UsageError: the machine has no such device.
            WorkspaceError: `calibration.json` is damaged.
        """
        if settings is None:
            from slicewise.config.compose import compose

            settings = compose([f"evaluation.{key}={value}" for key, value in overrides.items()]).evaluation
        settings = settings.model_copy(update=overrides)
        paths = [Path(each) for each in ([checkpoint] if isinstance(checkpoint, Path | str) else checkpoint)]
        loaded = [load_checkpoint(path) for path in paths]
        configured = Postprocessing.configured(settings)
        if len(loaded) == 1:
            points = find_operating_points(paths[0], loaded[0].weights_digest, configured, overrides)
        else:
            points = default_operating_points(configured, _ENSEMBLE)
        chosen: dict[str, Any] = {"inference": points.inference, "points": points}
        return cls(loaded, settings, device=device, backend=backend, paths=paths, **chosen)

    @property
    def slot(self) -> str:
        """The modality slot of a picture of unknown sequence."""
        return self.checkpoints[0].slot

    def to_json(self) -> dict[str, Any]:
        """Return the checkpoints, the settings of inference and the operating points."""
        return {
            "fingerprint": self.fingerprint,
            "synthetic": self.synthetic,
            "tasks": [*self.tasks],
            "checkpoints": [
                {
                    "path": str(path),
                    "fingerprint": checkpoint.fingerprint,
                    "stage": checkpoint.stage,
                    "data": checkpoint.data_name,
                }
                for path, checkpoint in zip(self.paths, self.checkpoints, strict=True)
            ],
            **self.inference._asdict(),
            "operating_points": self.points.to_json(),
        }

    def find(
        self, paths: Sequence[Path], modality: Modality | None = None
    ) -> tuple[list[CaseFiles], list[Problem]]:
        """Return the cases in files and folders, and the problems; see `data.inputs.find_inputs`.

        `modality` is that of files whose names do not state one.
        """
        return find_inputs(paths, DefaultModalities(modality, modality or self.slot))

    def predict(
        self,
        case: Input,
        *,
        channels: Modality | Sequence[Modality] | None = None,
        spacing: Sequence[float] | None = None,
        kind: InputKind | None = None,
    ) -> Prediction:
        """Return the prediction for one case.

        Args:
            case: a file or folder (a picture, a volume, a patient's folder, a folder of kaggle_3m), the files
                of a case (`find`), a `Volume`, a case of the slice store, or an array: a picture [row, col],
                a volume [slice, row, col], or several modalities [channel, slice, row, col]; slices from the
                feet to the head, row 0 anterior, column 0 the patient's right.
            channels: modality of a file whose name does not state one; of an array, one for each channel.
            spacing: of an array, the mm between voxels along (slice, row, col).
            kind: of a `Volume`, whose thresholds apply; by default a picture's if it has a single slice.

        Raises:
            DataError: a file is damaged, the files do not fit together, or a path holds no case or several;
                an array has another shape or type, or holds NaN.
        """
        files: CaseFiles | None = None
        warnings: tuple[str, ...] = ()
        if isinstance(case, StoredCase):
            kind = kind or ("picture" if case.pixel_mm is None and len(case.labels) == 1 else "volume")
            return self._predict(case, kind, warnings=case.remarks)
        if isinstance(case, str | Path):
            case = self._find_one(Path(case), channels)
        if isinstance(case, CaseFiles):
            files, kind = case, case.unit
            warnings = tuple(f"{problem.path.name}: {problem.what}" for problem in require_readable(case))
            case = case.read()
        elif not isinstance(case, Volume):
            case = volume_from_array(
                case, channels, spacing, self.slot, self.checkpoints[0].preprocessing.channels
            )
        kind = kind or ("picture" if case.orientation is None and case.shape[0] == 1 else "volume")
        sliced = extract_slices(case, self.checkpoints[0].preprocessing)
        return self._predict(sliced, kind, volume=case, files=files, warnings=(*warnings, *case.remarks))

    def _predict(
        self,
        slices: SlicedCase | StoredCase,
        kind: InputKind,
        *,
        volume: Volume | None = None,
        files: CaseFiles | None = None,
        warnings: tuple[str, ...] = (),
    ) -> Prediction:
        masks, classes = self.predict_stack(slices.images, slices.presence, slices.included)
        return Prediction(
            slices=slices,
            mask_probability=masks,
            class_probability=classes,
            kind=kind,
            point=self.points.of(kind),
            tasks=(*self.tasks,),
            spacing=volume.spacing if volume else None,
            orientation=volume.orientation if volume else None,
            files=files,
            fingerprint=self.fingerprint,
            synthetic=self.synthetic,
            warnings=warnings,
        )

    def _find_one(self, path: Path, channels: Modality | Sequence[Modality] | None) -> CaseFiles:
        if channels is not None and not isinstance(channels, str):
            raise DataError(f"channels={channels!r} is for arrays; of {path}, name one modality")
        cases, problems = self.find([path], channels)
        if not cases:
            raise DataError("; ".join(map(str, problems)))
        if len(cases) > 1:
            names = ", ".join(case.key.case for case in cases[:3])
            raise DataError(
                f"{path} holds {len(cases)} cases ({names}, ...); predict each of those that "
                "`Pipeline.find` returns, or use `slicewise predict`"
            )
        return cases[0]
