"""The modality of a DICOM series by its tags, and which series show none.

In this order: the words of SeriesDescription, those of ProtocolName, AcquisitionContrast of enhanced files,
then the times (echo, repetition and inversion). A named contrast agent makes T1 a T1 after contrast. Words
that contradict the times are not guessed from.
"""

import re
from dataclasses import dataclass
from typing import Final

from slicewise.data.filenames import parse_description
from slicewise.domain.labels import Modality
from slicewise.imaging.io.dicom_frames import Acquisition, Frame

_NOT_PREDICTED: Final = {
    **dict.fromkeys(("LOCALIZER",), "a localizer"),
    **dict.fromkeys(("MOSAIC",), "a mosaic of slices"),
    **dict.fromkeys(("ADC", "FA", "TRACEW", "T1 MAP", "T2 MAP", "PERFUSION", "DIFFUSION"), "a computed map"),
    **dict.fromkeys(("PROJECTION IMAGE", "MIP", "MINIP", "MNIP"), "a projection"),
    **dict.fromkeys(("SUBTRACTION", "SUB"), "a subtraction"),
    **dict.fromkeys(("SCREEN SAVE", "SCREENSAVE"), "a picture of a screen"),
    **dict.fromkeys(("P", "R", "I", "PHASE MAP"), "the phase or one part of a complex image"),
}
"""Values of ImageType and FrameType"""
_WORDS_NOT_PREDICTED: Final = {
    **dict.fromkeys(("localizer", "localiser", "scout", "survey", "loc", "aahscout"), "a localizer"),
    **dict.fromkeys(("calibration", "refscan"), "a calibration"),
    **dict.fromkeys(("mip", "minip"), "a projection"),
    **dict.fromkeys(("sub", "subtraction", "subtracted"), "a subtraction"),
    **dict.fromkeys(("diff", "diffusion", "perf", "perfusion", "spectroscopy"), "another image"),
}  # fmt: skip
_SPELLINGS: Final = (
    (re.compile(r"(?<![^\W_])[es](?=T[12]W?(?![^\W_]))", re.IGNORECASE), ""),  # eT1W, sT2W of Philips
    (re.compile(r"\bmp-(?=rage)", re.IGNORECASE), "mp"),
    (re.compile(r"\+ ?C(?![^\W_])|(?<![^\W_])C ?\+", re.IGNORECASE), " gd "),
)
_ACQUISITION_CONTRASTS: Final[dict[str, Modality]] = {"T1": "t1", "T2": "t2", "FLUID_ATTENUATED": "flair"}
_FAMILIES: Final = {"t1": "t1", "t1ce": "t1", "t2": "t2", "flair": "flair"}


@dataclass(frozen=True)
class Guess:
    """The modality of a series, and what it is known by; or None, and why."""

    modality: str | None
    reason: str
    is_named: bool
    """Whether a tag names it; else it follows from the times"""


def explain_left_out(frame: Frame) -> str | None:
    """Return why a frame is of no series that is predicted; None if it may be."""
    about = frame.about
    if not frame.is_mr:
        return "no MR image (a segmentation, report, secondary capture or another modality)"
    if not frame.is_grey:
        return "in colours, as no MR image is"
    for value in about.image_type[2:]:
        if kind := _NOT_PREDICTED.get(value):
            return f"{kind} by its ImageType ({value})"
    words = re.findall(r"[a-z]+(?![a-z]|-\d)", about.description.lower())  # `sub-01` is no subtraction
    if kind := next((_WORDS_NOT_PREDICTED[word] for word in words if word in _WORDS_NOT_PREDICTED), None):
        return f"{kind} by its SeriesDescription"
    if _read(about.description)[0] == "other":
        return "another image than t1, t1ce, t2 or flair by its SeriesDescription"
    return None


def guess_modality(about: Acquisition) -> Guess:
    """Return the modality of a series, or why it is not known."""
    by_times, times = _by_times(about), _describe_times(about)
    for tag, text in (("SeriesDescription", about.description), ("ProtocolName", about.protocol)):
        kind, candidates = _read(text)
        reason = f'{tag} "{text}"'
        if set(candidates) == {"t1", "t1ce"} and about.agent:
            return Guess("t1ce", f"{reason} and ContrastBolusAgent", is_named=True)
        if by_times in candidates and set(candidates) != {"t1", "t1ce"}:
            return _with_agent(by_times, f"{reason} and {times}", about, is_named=True)
        if candidates:
            return Guess(None, f"{reason} may say {' or '.join(candidates)}", is_named=True)
        if kind in _FAMILIES:
            return _checked(str(kind), reason, about)
    if modality := _ACQUISITION_CONTRASTS.get(about.contrast):
        return _checked(modality, f"AcquisitionContrast {about.contrast}", about)
    if by_times:
        return _with_agent(by_times, f"{times}; no tag names it, please check", about, is_named=False)
    return Guess(None, "neither SeriesDescription, ProtocolName nor the times tell it", is_named=False)


def _checked(modality: str, reason: str, about: Acquisition) -> Guess:
    """Return a named modality, unless the times contradict it."""
    by_times = _by_times(about)
    family = _FAMILIES[modality]
    # Not every scanner writes InversionTime: FLAIR may look like T2, and T1 after inversion like nothing.
    if by_times is not None and by_times != family and (family, by_times) != ("flair", "t2"):
        return Guess(None, f"{reason} says {modality}, and {_describe_times(about)} say {by_times}", True)
    return _with_agent(modality, reason, about, is_named=True)


def _with_agent(modality: str | None, reason: str, about: Acquisition, *, is_named: bool) -> Guess:
    says_before = re.search(r"(?<![a-z])(pre|nativ|native|without|non)(?![a-z])", about.description.lower())
    if modality == "t1" and about.agent and not says_before:
        return Guess("t1ce", f"{reason} and ContrastBolusAgent", is_named)
    return Guess(modality, reason, is_named)


def _read(text: str) -> tuple[str | None, tuple[str, ...]]:
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return parse_description(text)


def _by_times(about: Acquisition) -> str | None:
    """Return the modality that the times of the sequence suggest, by the usual protocols at 1.5 and 3 T."""
    echo, repetition, inversion = about.echo_ms, about.repetition_ms, about.inversion_ms or 0.0
    if not echo or "EP" in about.sequences:
        return None
    if inversion:
        is_flair = inversion >= 1500 and echo >= 60
        return "flair" if is_flair else "t1" if 300 <= inversion < 1500 and echo <= 30 else None
    is_gradient_echo = "GR" in about.sequences and "SE" not in about.sequences
    if not repetition:
        return None
    if echo >= 70 and repetition >= 1500 and not is_gradient_echo:
        return "t2"
    return "t1" if echo <= (10 if is_gradient_echo else 30) and repetition <= 1200 else None


def _describe_times(about: Acquisition) -> str:
    times = (
        ("EchoTime", about.echo_ms),
        ("RepetitionTime", about.repetition_ms),
        ("InversionTime", about.inversion_ms),
    )
    return ", ".join(f"{tag} {value:g} ms" for tag, value in times if value)
