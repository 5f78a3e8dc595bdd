"""Cases in DICOM files: the series of a study that lie on one grid, each with its modality.

A study (StudyInstanceUID) is one case. Of its series those on one grid are used; see `_best_grid` and `_rank`
for which grid and which of several series of one modality. Whatever is used or left out is said.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from os.path import commonpath
from pathlib import Path
from typing import Final, Literal, NamedTuple

from slicewise.data.cases import CaseFiles
from slicewise.data.dicom_modality import Guess, explain_left_out, guess_modality
from slicewise.data.problems import Problem, Severity
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import MODALITIES
from slicewise.domain.tables import plural
from slicewise.imaging.io.dicom import explain_syntax, read_stack
from slicewise.imaging.io.dicom_frames import DicomError, Frame, directory_files, read_frames
from slicewise.imaging.io.dicom_stack import Stack, build_stacks
from slicewise.imaging.orientation import compare_grids
from slicewise.imaging.volume import Volume, combine_images

_RULE: Final = "rule: named by a tag, original, most slices, highest number"


@dataclass(frozen=True, slots=True)
class DicomCase(CaseFiles):
    """A case of DICOM series; `modalities[i]` is that of `stacks[i]`, and `images` are all of their files."""

    stacks: tuple[Stack, ...] = ()
    used: tuple[str, ...] = ()
    """A line per series: its modality and what it is known by, or why it is left out"""
    certain: tuple[str, ...] = ()
    """Those of series that are used and named by a tag: nothing in them needs a check"""

    @property
    def folder(self) -> Path:
        """The one that holds all of the files."""
        return Path(commonpath([path.parent for path in self.images]))

    @property
    def unit(self) -> Literal["volume", "picture"]:
        return "volume"

    def check(self) -> list[Problem]:
        return [Problem(self.folder, line, "warning") for line in self.used]

    def read(self) -> Volume:
        return combine_images(self.key, self.modalities, map(read_stack, self.stacks))[0]


class ModelInputs(NamedTuple):
    """What a model takes: its channels, the modality of series whose tags do not tell it, and the slot that
    is preferred where series lie on different grids.
    """

    channels: Sequence[str]
    unnamed: str | None
    slot: str


class _Series(NamedTuple):
    stack: Stack
    guess: Guess

    @property
    def modality(self) -> str:
        return str(self.guess.modality)


def find_dicom_cases(
    files: Mapping[Path, Path], inputs: ModelInputs
) -> tuple[list[DicomCase], list[Problem]]:
    """Return the cases in DICOM files, and the problems of files and series.

    Args:
        files: each file and the folder that was given, below which folders name cases.
        inputs: of the model.
    """
    problems: list[Problem] = []
    frames = list(_read_all(files, problems))
    studies = defaultdict(list)
    for frame in frames:
        studies[frame.study].append(frame)
    folders = {study: {frame.path.parent for frame in members} for study, members in studies.items()}
    cases = []
    for study, members in studies.items():
        others = {folder for other, theirs in folders.items() if other != study for folder in theirs}
        candidates = list(_candidates(members, problems))
        name = _case_name(members, files[members[0].path], others)
        if case := _case(name, candidates, inputs, problems):
            cases.append(case)
    return cases, problems


def _read_all(files: Iterable[Path], problems: list[Problem]) -> Iterator[Frame]:
    """Yield the frames of files, of copies of one image the first."""
    known: dict[tuple[str, int], Path] = {}
    copies = defaultdict(list)
    for path in files:
        try:
            frames = read_frames(path)
        except DicomError as error:
            problems.append(Problem(path, error.message))
            continue
        for frame in frames:
            first = known.setdefault((frame.instance, frame.number), path)
            if first == path:
                yield frame
            elif frame.number == 0:
                copies[frame.label].append(path)
    for label, paths in copies.items():
        what = f"{label}: {plural(len(paths), 'file')} with the SOPInstanceUID of another, ignored as copies"
        problems.append(Problem(paths[0], what, "note"))


def _case_name(frames: Sequence[Frame], root: Path, others: set[Path]) -> str:
    """Return the name of a study: PatientID if it is no identity, or the folder that holds no other study.

    Folders below the given one are joined, as in `patient1-visit2`.
    """
    if frames[0].about.patient:
        return frames[0].about.patient
    root = root.resolve()
    folder = Path(commonpath([frame.path.parent.resolve() for frame in frames]))
    foreign = [other.resolve() for other in others]
    while folder != root and folder.is_relative_to(root):
        if any(other.is_relative_to(folder.parent) for other in foreign):
            break
        folder = folder.parent
    inside = folder.relative_to(root).parts if folder.is_relative_to(root) else ()
    return "-".join(inside) or folder.name


def _candidates(frames: Sequence[Frame], problems: list[Problem]) -> Iterator[Stack]:
    """Yield the stacks of a study that may be predicted."""
    in_order = sorted(frames, key=lambda frame: (frame.series_number or 0, frame.series))
    for _, members in groupby(in_order, key=lambda frame: (frame.series_number or 0, frame.series)):
        series = list(members)
        reasons = [explain_left_out(frame) for frame in series]
        for reason in dict.fromkeys(filter(None, reasons)):
            left = [frame for frame, other in zip(series, reasons, strict=True) if other == reason]
            problems.append(_problem(left, f"{reason}, not predicted", "note"))
        kept = [frame for frame, reason in zip(series, reasons, strict=True) if reason is None]
        if kept and (fault := explain_syntax(kept[0].transfer_syntax)):
            problems.append(_problem(kept, fault))
            continue
        stacks, faults = build_stacks(kept)
        problems += [_problem(each.frames, each.message) for each in faults]
        yield from stacks


def _problem(frames: Sequence[Frame], what: str, severity: Severity = "error") -> Problem:
    paths = list(dict.fromkeys(frame.path for frame in frames))
    has_frames = len(paths) == 1 and frames[0].is_mr
    size = plural(len(frames), "frame") if has_frames else plural(len(paths), "file")
    return Problem(
        paths[0] if len(paths) == 1 else paths[0].parent, f"{frames[0].label} ({size}): {what}", severity
    )


def _case(
    name: str, stacks: Sequence[Stack], inputs: ModelInputs, problems: list[Problem]
) -> DicomCase | None:
    """Return the case of the stacks of a study, or None and problems."""
    candidates = [_Series(stack, _guess(stack, inputs)) for stack in stacks]
    known = [series for series in candidates if series.guess.modality in inputs.channels]
    for series in candidates:
        if series not in known:
            what = _describe_unknown(series.guess, inputs)
            problems.append(_problem(series.stack.frames, what, "note" if known else "error"))
    if not known:
        return None
    grid, others = _best_grid(known, inputs)
    chosen, lines = _choose(grid, inputs)
    lines += [_describe_other_grid(series, chosen[0]) for series in others]
    if len({series.stack.frames[0].frame_of_reference for series in chosen}) > 1:
        lines.append("the series have different frames of reference: check that they show the same place")
    paths = dict.fromkeys(frame.path for series in chosen for frame in series.stack.frames)
    safe = safe_name(name)
    return DicomCase(
        key=CaseKey("input", safe, safe),
        kind="dicom",
        modalities=tuple(series.modality for series in chosen),
        images=tuple(paths),
        masks=(),
        label=None,
        group=safe,
        stacks=tuple(series.stack for series in chosen),
        used=tuple(lines),
        # Not strict: the lines begin with one for each chosen series, and others follow.
        certain=tuple(line for series, line in zip(chosen, lines, strict=False) if series.guess.is_named),
    )


def _guess(stack: Stack, inputs: ModelInputs) -> Guess:
    guess = guess_modality(stack.frames[0].about)
    given = inputs.unnamed
    if given and (guess.modality is None or given not in MODALITIES):
        return Guess(given, "--modality", is_named=False)
    return guess


def _describe_unknown(guess: Guess, inputs: ModelInputs) -> str:
    channels = "|".join(inputs.channels)
    if guess.modality:
        return f"it is {guess.modality} by {guess.reason}, and the model has {', '.join(inputs.channels)}"
    return (
        f"its modality is not known: {guess.reason}; add --modality {channels}, or convert it "
        "(`dcm2niix FOLDER`) and name it CASE_t1, CASE_t1ce, CASE_t2 or CASE_flair"
    )


def _best_grid(known: Sequence[_Series], inputs: ModelInputs) -> tuple[list[_Series], list[_Series]]:
    """Return the series on the grid that is used, and the others.

    It is the grid with the most modalities, then the one with the slot of the model, then with most slices.
    """
    grids: list[list[_Series]] = []
    for series in known:
        same = (grid for grid in grids if _same_grid(grid[0].stack, series.stack))
        grid = next(same, None)
        if grid is None:
            grids.append([series])
        else:
            grid.append(series)
    best = max(
        grids,
        key=lambda grid: (
            len({series.modality for series in grid}),
            any(series.modality == inputs.slot for series in grid),
            len(grid[0].stack.frames),
        ),
    )
    return best, [series for grid in grids if grid is not best for series in grid]


def _same_grid(first: Stack, other: Stack) -> bool:
    return compare_grids("", first.orientation, other.orientation) is None


def _rank(series: _Series) -> tuple[bool, bool, int, int]:
    frame = series.stack.frames[0]
    is_original = "DERIVED" not in frame.about.image_type
    return series.guess.is_named, is_original, len(series.stack.frames), frame.series_number or 0


def _choose(grid: Sequence[_Series], inputs: ModelInputs) -> tuple[list[_Series], list[str]]:
    """Return a series per modality, in the order of the channels, and the lines about all of them."""
    chosen, lines, left = [], [], []
    for channel in inputs.channels:
        ranked = sorted((each for each in grid if each.modality == channel), key=_rank, reverse=True)
        for series in ranked[:1]:
            count = plural(len(series.stack.frames), "slice")
            lines.append(f"{channel}: {series.stack.label}, {count}, by {series.guess.reason}")
            chosen.append(series)
        for series in ranked[1:]:
            used = f"{channel} too ({series.guess.reason}), and {ranked[0].stack.label} is used"
            left.append(f"{series.stack.label} is left out: {used} ({_RULE})")
    return chosen, [*lines, *left]


def _describe_other_grid(series: _Series, first: _Series) -> str:
    mismatch = compare_grids(first.stack.label, first.stack.orientation, series.stack.orientation)
    difference = mismatch.message.partition(";")[0] if mismatch else "another grid"
    return (
        f"{series.modality}: {series.stack.label} is left out: {difference}; SliceWise does not resample "
        f"without notice: resample it to {first.stack.label} as NIfTI"
    )


def expand_directory(path: Path) -> tuple[list[Path], list[Problem]]:
    """Return the files that a DICOMDIR names, and a problem if it is damaged or they are not there."""
    try:
        named = directory_files(path)
    except DicomError as error:
        return [], [Problem(path, error.message)]
    present = [file for file in named if file.is_file()]
    if len(present) < len(named) or not named:
        what = f"names {plural(len(named), 'file')}, of which {len(named) - len(present)} are not beside it"
        return present, [Problem(path, what, "warning" if present else "error")]
    return present, []
