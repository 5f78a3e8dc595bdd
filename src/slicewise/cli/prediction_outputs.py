"""The files of `slicewise predict`: masks, overlays, maps, tables, and a submission."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from slicewise.core.console import say
from slicewise.core.disk import expand_user, explain_disk_error
from slicewise.core.errors import DataError, UsageError
from slicewise.core.files import atomic_write, write_json
from slicewise.domain.labels import NOTICE, SYNTHETIC_WARNING
from slicewise.domain.tables import write_rows
from slicewise.domain.wording import reword, wording
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.cli.prediction_truth import Comparison
    from slicewise.imaging.volume import Volume
    from slicewise.inference.pipeline import Pipeline
    from slicewise.inference.prediction import Prediction
    from slicewise.inference.prediction_rows import PredictedSlice, PredictionRow
    from slicewise.inference.submission import Row as SubmissionRow

RESULTS: Final = Path("results/predictions")
CSV_NAME: Final = "predictions.csv"
JSON_NAME: Final = "predictions.json"
SLICES_NAME: Final = "slices.csv"


@dataclass
class PredictionOutputs:
    """Where predictions are written."""

    folder: Path
    submission: Path | None
    overlay: bool
    probability_maps: bool
    dicom_seg: bool
    lines: "list[SubmissionRow]" = field(default_factory=list)
    """Those of the submission"""
    slices: "list[PredictedSlice]" = field(default_factory=list)
    """Those of all volumes"""

    @classmethod
    def of(cls, args: argparse.Namespace, workspace: Workspace) -> Self:
        folder: Path = expand_user(args.out or workspace.root / RESULTS)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--out {folder} is not a folder")
        path = expand_user(args.submission) if args.submission else None
        if path and (path.is_dir() or path.suffix.lower() != ".csv"):
            raise UsageError(f"--submission {path}: expected the name of a CSV file, such as submission.csv")
        return cls(
            folder,
            path,
            overlay=not args.no_overlay,
            probability_maps=args.probability_maps,
            dicom_seg=not args.no_dicom_seg,
        )

    def add(
        self, prediction: "Prediction", volume: "Volume", comparison: "Comparison | None" = None
    ) -> "PredictionRow":
        """Write the files of a case; return its row."""
        from slicewise.inference.prediction_rows import slice_rows

        with _explain_full_disk(self.folder, "--out"):
            if prediction.kind == "volume":
                self.slices += slice_rows(prediction)
            row = prediction.to_row(
                scores=comparison.scores if comparison else None,
                mask=prediction.save_mask(self.folder),
                overlay=self._save_overlay(prediction, volume, comparison) if self.overlay else None,
                probability_maps=prediction.save_probabilities(self.folder)
                if self.probability_maps
                else None,
                uncertainty=prediction.save_uncertainty(self.folder),
                dicom_seg=self._save_dicom_seg(prediction) if self.dicom_seg else None,
            )
        if self.submission:
            from slicewise.inference.submission import submission_rows

            self.lines += submission_rows(prediction)
        return row

    def _save_overlay(
        self, prediction: "Prediction", volume: "Volume", comparison: "Comparison | None"
    ) -> str | None:
        from slicewise.imaging.io.image2d import to_png
        from slicewise.plots.slices import draw_prediction

        picture = draw_prediction(prediction, volume, comparison.reference if comparison else None)
        if picture is None:
            return None
        name = f"{prediction.case}_overlay.png"
        with atomic_write(self.folder / name) as stream:
            stream.write(to_png(picture))
        return name

    def _save_dicom_seg(self, prediction: "Prediction") -> str | None:
        """Write the DICOM-SEG of a case of DICOM series; say why where it cannot be written."""
        if prediction.files is None or prediction.files.kind != "dicom":
            return None
        from slicewise.inference.dicom_seg import save_dicom_seg

        try:
            return save_dicom_seg(prediction, self.folder)
        except DataError as error:
            say(str(error), "warn")
            return None

    def write_tables(self, rows: "Sequence[PredictionRow]", pipeline: "Pipeline") -> dict[str, Any]:
        """Write the tables for people, that for programs, and the submission, each atomically.

        Return what the one for programs holds.
        """
        from slicewise.inference.prediction_rows import PredictedSlice, PredictionRow

        with wording(pipeline.checkpoints[0].preprocessing.channels, pipeline.classes.names):
            notes = {
                "notice": reword(NOTICE),
                "warning": reword(SYNTHETIC_WARNING) if pipeline.synthetic else None,
            }
        content = {**notes, **pipeline.to_json(), "cases": [row.to_json() for row in rows]}
        with _explain_full_disk(self.folder, "--out"):
            write_rows(self.folder / CSV_NAME, rows, PredictionRow)
            if self.slices:
                write_rows(self.folder / SLICES_NAME, self.slices, PredictedSlice)
            else:
                (self.folder / SLICES_NAME).unlink(missing_ok=True)
            write_json(self.folder / JSON_NAME, content)
        if self.submission:
            from slicewise.inference.submission import write_submission

            with _explain_full_disk(self.submission.parent, "--submission"):
                write_submission(self.submission, self.lines, pipeline.task_names, pipeline.classes)
        return content


@contextmanager
def _explain_full_disk(folder: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if explained := explain_disk_error(error, folder, option=option):
            raise explained from error
        raise
