"""Parses the names of files and folders: the case, and the modality or mask that a file shows.

    BraTS20_Training_001_t1ce.nii, BraTS-GLI-00000-000-t1n.nii.gz       a case, then a modality
    UCSF-PDGM-0004_T1c_bias.nii.gz, P03_flair_bet.nii.gz, P1_T2_to_SRI  what tools add
    sub-01_ses-02_acq-mprage_ce-gadolinium_run-1_T1w.nii.gz             entities of BIDS
    Smith/T1ce.nii.gz, EGD-0001/2_T1GD/NIFTI/T1GD.nii.gz                the folder is the case
    labelsTr/P01.nii.gz, FLAIR/P01.nii.gz                               the folder says what it shows

Names are read from their end. The part before the words for the content names the case, whatever words are
in it: `T2-001_flair` is the FLAIR of `T2-001`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

from slicewise.data.filename_words import MODALITY_TAGS, Tag, Word, split_words
from slicewise.domain.labels import Modality

Kind = Modality | Literal["mask", "other"]
SUFFIXES: Final = (".nii", ".nii.gz")
_ENDING: Final = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_SEPARATORS: Final = " -_.,+()[]{}="
_VSD: Final = re.compile(r"VSD\.Brain(_\w+?)?\.XX\.O\.", re.IGNORECASE)
"""Prefix of the files of BraTS 2013 and 2015; `OT` is their mask."""
_MASK_WORD: Final = "masks?|segmentation|segm?|labels?|gt|groundtruth|overlay|pred(iction)?"
_MASK_OF: Final = re.compile(rf"({_MASK_WORD})(?P<after>.+)|(?P<before>.+)({_MASK_WORD})", re.IGNORECASE)
_TECHNICAL: Final = {
    "nifti", "nii", "anat", "files", "resources", "scans", "structural", "imagestr", "imagests", "images",
}  # fmt: skip
_SERIES_DIGITS: Final = 2
"""In `2_T1GD` the number is that of a series, not of a patient."""
_FOLDERS: Final = 3
"""Number of folders above a file that are read."""
_SHOWING: Final[frozenset[Tag]] = frozenset(
    ("t1", "t1ce", "t2", "flair", "mask", "tumour", "part", "map", "other")
)
_ADDED: Final[frozenset[Tag]] = frozenset(("suffix", "tissue", "link", "auto"))
_BY_PROGRAMS: Final = {"glistrboost"}
"""Words for a mask that also name its software."""
_VISIT: Final = re.compile(
    r"((ses|session|visit|timepoint|time|tp|week|month|day|followup|fu|scan|exam)[-_ ]?\d.*|"
    r"baseline|pre-?op|post-?op|\d{1,2}|(19|20)\d\d[-_.]?\d\d[-_.]?\d\d.*)",
    re.IGNORECASE,
)
_VISITS_OF_PATIENTS: Final = (
    re.compile(r"(?P<patient>sub-[a-z0-9]+)_ses-.+", re.IGNORECASE),
    re.compile(r"(?P<patient>brats(-[a-z]+)+-\d{4,5})-\d{1,3}", re.IGNORECASE),
    re.compile(r"(?P<patient>brats1\d_.+|brats_.+_pat\d+)_\d+", re.IGNORECASE),
    re.compile(r"(?P<patient>upenn-gbm-\d{5})_\d\d", re.IGNORECASE),
    re.compile(r"(?P<patient>ucsf-pdgm-\d{4})_fu\w+", re.IGNORECASE),
    re.compile(
        r"(?P<patient>.+?)[-_]((ses|session|visit|timepoint|tp|week|month|followup|fu|v)[-_]?\d.*|"
        r"baseline|pre-?op|post-?op|(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01]).*)",
        re.IGNORECASE,
    ),
)


@dataclass(frozen=True)
class ParsedName:
    """The parts of a name.

    Attributes:
        case: the case; empty where the name has only words for the content.
        kind: the content: a modality, the mask of a tumour, or another image; None where it is not named, or
            ambiguous.
        candidates: the possible modalities of an ambiguous name.
        number: a trailing number: of a series, or the end of the case's name.
        suffixes: words for processing, such as `bet`.
        sure: False where the words for the content may belong to the name of the case.
        about_tumour: a mask that is named after a tumour.
        of_modality: a mask that is named after a modality.
    """

    case: str
    kind: Kind | None = None
    candidates: tuple[Modality, ...] = ()
    number: str = ""
    suffixes: tuple[str, ...] = ()
    sure: bool = True
    about_tumour: bool = False
    of_modality: bool = False


def parse_filename(path: Path) -> ParsedName:
    """Return the parts of a volume's name, or of its folders' names where it does not name the content.

    Of a file in a folder of its own name (from some archives), the folder's name is parsed.
    """
    stem = strip_suffix(effective_name(path))
    folders = _names_of_folders(case_folder(path))
    own = next((len(name) for name in folders if _names_case(stem, name)), 0)
    parsed = parse_stem(stem, own)
    if parsed.kind is None and not parsed.candidates and own == len(stem):
        parsed = parse_stem(stem)
    if parsed.kind is None and not parsed.candidates:
        # A folder `tumor` may be a class of patients.
        above = (name for name in map(parse_stem, folders) if not name.case and not name.about_tumour)
        named = (name for name in above if name.kind not in (None, "other"))
        return replace(next(named, parsed), case=stem, number="")
    return parsed


@lru_cache(maxsize=1024)
def _names_of_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of a folder and of some above it."""
    return tuple(each.name for each in (folder, *folder.parents)[:_FOLDERS])


@lru_cache(maxsize=1024)
def parse_stem(stem: str, own: int = 0) -> ParsedName:
    """Return the parts of a name without ending, whose first `own` characters name the case."""
    if match := _VSD.match(stem):
        rest = re.sub(r"^OT\b", "seg", stem[match.end() :])
        return parse_stem(re.sub(r"^MR_", "", rest))
    words = [replace(word, tag="unknown") if word.start < own else word for word in split_words(stem)]
    first = _find_tail(words)
    run = words[first:]
    if _shows(run) or any(word.tag == "contrast" for word in run):
        return _named(stem[: run[0].start], run, before=words[:first])
    return _read_inside(stem, words)


def parse_description(text: str) -> tuple[Kind | None, tuple[Modality, ...]]:
    """Return what a text such as `AX T1 POST GD` shows, or the modalities that it may show.

    Words for a tumour or a tissue tell nothing there: such a text describes a scan.
    """
    words = [word for word in split_words(text) if word.tag not in ("mask", "tumour", "tissue", "part")]
    tags = {word.tag for word in words}
    if not tags & {*MODALITY_TAGS, "other", "map"}:
        return None, ()
    return _kind(tags, words, before=())


def parse_patient(case: str) -> str:
    """Return the patient of a case: the name without the visit, where it has one."""
    matches = (pattern.fullmatch(case) for pattern in _VISITS_OF_PATIENTS)
    return next((match["patient"] for match in matches if match), case)


def find_case_folder(path: Path, name: ParsedName, root: Path | None = None) -> Path:
    """Return the folder of a file's case: its nearest one that is not of one series or one format.

    No folder above `root` is returned.
    """
    folder = case_folder(path)
    for _ in range(_FOLDERS):
        parsed = parse_stem(folder.name)
        is_series = len(parsed.case) <= _SERIES_DIGITS and parsed.case.isdecimal()
        is_file = (parsed.case.lower(), parsed.kind) == (name.case.lower(), name.kind)
        is_content = parsed.kind is not None and (not parsed.case or is_series or is_file)
        is_top = folder in (root, folder.parent)
        if is_top or not (is_content or folder.name.lower() in _TECHNICAL):
            break
        folder = folder.parent
    return folder


def case_from_folder(folder: Path) -> str:
    """Return the name of the case in a folder: the folder's, after its parent's where it is a visit."""
    here = folder.absolute()
    return f"{here.parent.name}_{here.name}" if _VISIT.fullmatch(here.name) else here.name


def patient_from_folder(folder: Path, root: Path | None = None) -> str:
    """Return the patient of the case in a folder; folders of visits below `root` are in the patient's."""
    here = folder.absolute()
    top = here.parent if root is None else root.absolute()
    visits = [f for f in (here, *here.parents) if top in f.parents and _VISIT.fullmatch(f.name)]
    return visits[-1].parent.name if visits else parse_patient(here.name)


def is_mask_name(stem: str) -> bool:
    """Whether a picture's name ends as that of a mask, or of a picture made from one."""
    words = split_words(stem)
    tags = {word.tag for word in words[_find_tail(words) :]}
    made = {"pred", "preds", "prediction", "predictions", "predicted"} & {word.text for word in words[-1:]}
    return bool(tags & {"mask", "map"} or made)


def image_stem_of_mask(stem: str) -> str | None:
    """Return the name of the picture that a mask belongs to, as in `Y0mask` and `mask_Y0`."""
    match = _MASK_OF.fullmatch(stem)
    return (match["after"] or match["before"]).strip(_SEPARATORS).lower() if match else None


def is_mask_folder(folder: str) -> bool:
    """Whether a folder is named only after masks or pictures made from them."""
    tags = {word.tag for word in split_words(folder)}
    return bool(tags & {"mask", "map"}) and tags <= {"mask", "map", "tumour", "tissue", "suffix", "auto"}


def strip_suffix(name: str) -> str:
    """Return the name of a volume without its ending."""
    return _ENDING.sub("", name)


def case_folder(path: Path) -> Path:
    """Return the folder a file lies in; some mirrors unpack x_flair.nii.gz to a folder of that name."""
    return path.parent.parent if _is_wrapper(path.parent) else path.parent


def effective_name(path: Path) -> str:
    """Return the name of a file, or of its folder where that is named like a file."""
    return path.parent.name if _is_wrapper(path.parent) else path.name


def _is_wrapper(folder: Path) -> bool:
    return folder.name.lower().endswith(SUFFIXES)


def _names_case(stem: str, folder: str) -> bool:
    """Whether a folder's name is the beginning of a file's, and names a case."""
    after = stem[len(folder) : len(folder) + 1]
    fits = bool(folder) and stem.lower().startswith(folder.lower()) and not after.isalnum()
    return fits and _holds_a_name(folder)


@lru_cache(maxsize=1024)
def _holds_a_name(folder: str) -> bool:
    return any(word.tag in ("unknown", "number") for word in split_words(folder))


def _find_tail(words: Sequence[Word]) -> int:
    """Return the index of the first of the last words for the content.

    After one of them, a number or letter to the left belongs to the case; so does a word for a tumour, or for
    before and after, left of a modality.
    """
    tags_so_far: set[Tag] = set()
    for place in range(len(words) - 1, -1, -1):
        word = words[place]
        left_of_modality = word.tag in ("tumour", "post") or word.text == "pre"
        names_case = word.tag == "number" or (word.tag == "suffix" and len(word.text) == 1)
        ends = (names_case and tags_so_far) or (left_of_modality and tags_so_far & {*MODALITY_TAGS})
        if word.tag == "unknown" or ends:
            return place + 1
        tags_so_far |= {word.tag} & _SHOWING
    return 0


def _shows(words: Iterable[Word]) -> bool:
    return any(word.tag in _SHOWING for word in words)


def _read_inside(stem: str, words: Sequence[Word]) -> ParsedName:
    """Return the parts of a name that names its content in one place before the end."""
    neutral = ("unknown", "number")
    runs = [[*run] for skipped, run in groupby(words, lambda word: word.tag in neutral) if not skipped]
    runs = [run for run in runs if _shows(run)]
    shown = [run for run in runs if any(word.tag in MODALITY_TAGS for word in run)] or runs
    if not shown:
        return ParsedName(stem)
    run = shown[-1]
    left, right = stem[: run[0].start].strip(_SEPARATORS), stem[run[-1].end :].strip(_SEPARATORS)
    name = _named("_".join(filter(None, (left, right))), run, before=())
    if len(shown) > 1:
        tags = (word.tag for part in shown for word in part)
        both = tuple(dict.fromkeys(MODALITY_TAGS[tag] for tag in tags if tag in MODALITY_TAGS))
        return ParsedName(stem, None, both if len(both) > 1 else name.candidates)
    follows = words[words.index(run[-1]) + 1]
    is_first_of_a_number = not left and follows.tag == "number"
    return replace(name, sure=name.kind in MODALITY_TAGS and not is_first_of_a_number)


def _named(case: str, run: Sequence[Word], before: Sequence[Word]) -> ParsedName:
    words = _without_targets(run)
    tags = {word.tag for word in words}
    kind, candidates = _kind(tags, words, before)
    is_mask = kind == "mask"
    last = max((place for place, word in enumerate(words) if word.tag in _SHOWING), default=0)
    number = "_".join(word.text for word in words[last:] if word.tag == "number")
    return ParsedName(
        case=case.strip(_SEPARATORS),
        kind=kind,
        candidates=candidates,
        number=number,
        suffixes=tuple(word.text for word in words if word.tag in _ADDED or word.text in _BY_PROGRAMS),
        sure=not number or sum(word.tag != "number" for word in words) > 1,
        about_tumour=is_mask and "tumour" in tags,
        of_modality=is_mask and bool(tags & {*MODALITY_TAGS}),
    )


def _without_targets(run: Sequence[Word]) -> list[Word]:
    """Return the words without the target of a registration: `FLAIR_to_T1` shows FLAIR."""
    words: list[Word] = []
    target = False
    for word in run:
        named = word.tag in MODALITY_TAGS or word.tag in ("contrast", "native", "post")
        if word.tag == "link":
            target = any(earlier.tag in MODALITY_TAGS for earlier in words)
        elif not named:
            target = False
        if not (target and named):
            words.append(word)
    return words


def _kind(
    tags: set[Tag], words: Sequence[Word], before: Sequence[Word]
) -> tuple[Kind | None, tuple[Modality, ...]]:
    if tags & {"other", "map"}:
        return "other", ()
    if tags & {"mask", "tumour"}:
        return ("mask" if "tumour" in tags or not tags & {"tissue", "part"} else "other"), ()
    if "part" in tags:
        return "other", ()
    shown = {MODALITY_TAGS[tag] for tag in tags if tag in MODALITY_TAGS}
    if shown == {"t2", "flair"}:
        return "flair", ()
    if shown == {"t1"}:
        return _with_or_without_contrast(tags, words, before)
    if len(shown) == 1:
        return shown.pop(), ()
    return None, tuple(sorted(shown)) or ("t1ce",)


def _with_or_without_contrast(
    tags: set[Tag], words: Sequence[Word], before: Sequence[Word]
) -> tuple[Kind | None, tuple[Modality, ...]]:
    """`post` alone means the contrast agent; beside an operation or in front of T1 it is ambiguous."""
    operation = any(word.text == "post op" for word in words)
    if "contrast" in tags:
        return "t1ce", ()
    if operation or (before and before[-1].tag == "post"):
        return None, ("t1", "t1ce")
    return ("t1ce" if "post" in tags else "t1"), ()
