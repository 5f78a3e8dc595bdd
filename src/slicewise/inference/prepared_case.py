"""A case as the models are given it: from a path, files, a volume, an array or a stored case to slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from slicewise.config.schema import Preprocessing
from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles, ReadCase, read_case
from slicewise.data.inputs import DefaultModalities, find_inputs
from slicewise.data.store import StoredCase
from slicewise.domain.labels import Modality
from slicewise.domain.reference import TrainingReference
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.slicing import SlicedCase, extract_slices
from slicewise.imaging.volume import Volume, volume_from_array
from slicewise.inference.operating_points import InputKind
from slicewise.inference.plausibility import find_doubts

Input = Path | str | CaseFiles | ReadCase | StoredCase | Volume | NDArray[Any]


@dataclass(frozen=True)
class PreparedCase:
    """The slices of a case and what its prediction keeps of the files."""

    slices: SlicedCase | StoredCase
    kind: InputKind
    """Whose thresholds apply"""
    spacing: tuple[float, float, float] | None = None
    """mm between voxels along (slice, row, col)"""
    orientation: Orientation | None = None
    files: CaseFiles | None = None
    warnings: tuple[str, ...] = ()
    """About the files"""
    doubts: tuple[str, ...] = ()
    """What speaks against the case, see `Prediction.doubts`"""


def prepare_case(
    case: Input,
    preprocessing: Preprocessing,
    slot: str,
    reference: TrainingReference | None = None,
    *,
    channels: Modality | Sequence[Modality] | None = None,
    spacing: Sequence[float] | None = None,
    kind: InputKind | None = None,
    skull_strip: bool = False,
) -> PreparedCase:
    """Return the slices of a case for a model with this preprocessing; pictures fill the channel `slot`.

    `reference` is what the model remembers of its training cases. The other arguments and the errors are
    those of `Pipeline.predict`.
    """
    if isinstance(case, StoredCase):
        is_picture = case.pixel_mm is None and (len(case.labels) == 1 or case.geometry.is_tiled)
        return PreparedCase(case, kind or ("picture" if is_picture else "volume"), warnings=case.remarks)
    if isinstance(case, str | Path):
        case = _find_one(Path(case), channels, slot)
    if isinstance(case, CaseFiles):
        case = read_case(case)
    elif not isinstance(case, Volume | ReadCase):
        case = volume_from_array(case, channels, spacing, slot, preprocessing.channels)
    read = case if isinstance(case, ReadCase) else ReadCase(case)
    volume, kind = read.volume, read.files.unit if read.files else kind
    kind = kind or ("picture" if volume.orientation is None and volume.shape[0] == 1 else "volume")
    if skull_strip:
        from slicewise.inference.skull_strip import strip_skull

        volume = strip_skull(volume)
    slices = extract_slices(volume, preprocessing)
    return PreparedCase(
        slices=slices,
        kind=kind,
        spacing=volume.spacing,
        orientation=volume.orientation,
        files=read.files,
        warnings=(*read.warnings, *volume.remarks),
        doubts=find_doubts(volume, slices, reference),
    )


def _find_one(path: Path, channels: Modality | Sequence[Modality] | None, slot: str) -> CaseFiles:
    if channels is not None and not isinstance(channels, str):
        raise DataError(f"channels={channels!r} is for arrays; of {path}, name one modality")
    cases, problems = find_inputs([path], DefaultModalities(channels, channels or slot))
    if not cases:
        raise DataError("; ".join(map(str, problems)))
    if len(cases) > 1:
        names = ", ".join(case.key.case for case in cases[:3])
        raise DataError(
            f"{path} holds {len(cases)} cases ({names}, ...); predict each of those that "
            "`Pipeline.find` returns, or use `slicewise predict`"
        )
    return cases[0]
