"""The vocabulary of file names: splits a name into words and tags each with its meaning."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from slicewise.domain.labels import Modality

Tag = Literal[
    "t1", "t1ce", "t2", "flair", "contrast", "native", "post", "mask", "tumour", "tissue", "part", "map",
    "other", "auto", "link", "suffix", "number", "unknown",
]  # fmt: skip
"""contrast, native: with or without contrast agent. tissue: the whole brain. part: one of its tissues. map: a
probability or another derived image. other: a sequence that fills no slot. auto: made by a program. link: the
next word names the space, not the image."""

_LISTS: Final[Mapping[Tag, str]] = {
    "t1": "t1 t1w t1n t1wi t1weighted mprage mp2rage spgr fspgr irfspgr bravo",
    "t1ce": "t1ce t1c t1gd t1gad t1post t1km t1wce t1wc ct1 cet1 gdt1",
    "t2": "t2 t2w t2n t2wi t2weighted",
    "flair": "flair t2f t2flair flr fl darkfluid tirm",
    "contrast": (
        "ce gd gad gado gadolinium gadavist gadovist gadoterate dotarem magnevist multihance prohance "
        "contrast contrastenhanced enhanced enh cm km kontrast postcontrast postgd postgad postgado "
        "postce wc"
    ),
    "native": "pre precontrast pregd pregad noncontrast nocontrast nongad nongd unenhanced nonenhanced nativ",
    "post": "post",
    "mask": (
        "mask masks maske seg segm segs segment segmentation segmentations segmented label labels "
        "labelmap lbl gt truth groundtruth annotation annotations annotated roi rois voi contour dseg "
        "labelstr labelsts glistrboost"
    ),
    "tumour": (
        "tumor tumour tumors tumours lesion lesions glioma gliomas meningioma metastasis metastases gtv "
        "ctv enhancing necrosis necrotic edema oedema wholetumor wholetumour wt tc et ncr"
    ),
    "tissue": "brain brains parenchyma parenchymal head intracranial icv bet hdbet braintissue",
    "part": (
        "wm gm csf tissue tissues tissuetype ventricle ventricles whitematter greymatter graymatter skull "
        "scalp cortex hippocampus thalamus cerebellum aseg aparc synthseg pve pveseg mixeltype vessel "
        "vessels"
    ),
    "map": (
        "prob probs probability probabilities probseg probmap probabilitymap softmax logits uncertainty "
        "entropy heatmap gradcam saliency xfm warp jacobian overlay overlays"
    ),
    "other": (
        "adc dwi swi swan asl dti dsc dce fa md rd cbv rcbv cbf mtt ktrans pd pdw t2star t2s t1map t2map "
        "t1rho gre bold fmri rsfmri ct cta pet mra mrv tof trace qsm phase magnitude fieldmap epi ep2d "
        "stir dir psir ciss fiesta"
    ),
    "auto": "auto automatic automated approx pred preds prediction predictions predicted",
    "link": (
        "to on onto in into reg register registered regto coreg coregistered aligned warped resampled "
        "resliced ref like space"
    ),
    "suffix": (
        "ss skullstrip skullstripped skullstriped strip stripped unstrip unstripped noskull n4 n4itk n3 "
        "bias biascorr biascorrected biasfieldcorrected bfc restore norm normalized normalised normed "
        "zscore zscored whitestripe histmatch hm iso isotropic lps ras rai lpi lia ref sri sri24 mni "
        "mni152 mni305 template atlas talairach w weighted image images img imgs vol volume scan series "
        "mr mri nifti nii mgz ax axial sag sagittal cor coronal tra trans transversal transverse 3d 2d "
        "tse fse frfse se ir cube vista tfe ffe fl2d fl3d flash propeller blade fat fatsat fs dark fluid "
        "orig original raw processed preproc preprocessed defaced deface anon final manual edited "
        "corrected corr resample reslice crop cropped pad padded denoised smooth ssfinal r r2s rsz dixon "
        "native mpr haste synthstrip robex extraction extracted minmax nyul manuallycorrected "
        "vibe gre3d structural anat files resources imagestr imagests nifti1 hd"
    ),
}
_VOCABULARY: Final[Mapping[str, Tag]] = {word: tag for tag, words in _LISTS.items() for word in words.split()}
_TWO_WORDS: Final[Mapping[tuple[str, str], Tag]] = {
    ("t2", "star"): "other", ("t2", "*"): "other", ("t1", "map"): "other", ("t2", "map"): "other",
    ("t1", "c"): "t1ce", ("t1w", "c"): "t1ce", ("t1", "+"): "t1ce", ("t1w", "+"): "t1ce",
    ("t1c", "+"): "t1ce", ("t1 +", "c"): "t1ce", ("t1w +", "c"): "t1ce",
    ("dark", "fluid"): "flair", ("ground", "truth"): "mask", ("white", "matter"): "part",
    ("grey", "matter"): "part", ("gray", "matter"): "part", ("skull", "strip"): "suffix",
    ("skull", "stripped"): "suffix", ("no", "skull"): "suffix", ("with", "skull"): "suffix",
    ("non", "contrast"): "native", ("no", "contrast"): "native", ("without", "contrast"): "native",
    ("pre", "contrast"): "native", ("pre", "gd"): "native", ("pre", "gad"): "native", ("non", "gd"): "native",
    ("non", "enhanced"): "native", ("no", "gd"): "native", ("post", "contrast"): "contrast",
    ("post", "gd"): "contrast", ("post", "gad"): "contrast", ("post", "gado"): "contrast",
    ("post", "gadolinium"): "contrast", ("with", "contrast"): "contrast", ("plus", "c"): "contrast",
    ("non", "enhancing"): "tumour", ("brain", "tissue"): "part",
}  # fmt: skip
_OPERATION: Final = {"op", "operative", "surgery", "surgical", "rt", "treatment", "resection", "chemo"}
_WORD: Final = re.compile(r"[^\W_]+|[+*]")
_NUMBER: Final = re.compile(r"\d+|[ev]\d{1,2}")
_SIZE: Final = re.compile(r"\d+(x\d+)*(mm|iso)|mm")
_PARALLEL: Final = re.compile(r"p\d")
"""The factor of parallel imaging that Siemens writes before `iso`; alone it may name a patient."""
_PREFIX: Final = re.compile(r"(?:[rwmsn]{1,2}|br)(?=(?:t1|t2|flair)[a-z]*$)")
"""Prefixes of SPM and others for resliced, warped or corrected files."""
_IDENTITY: Final = ("sub", "ses", "task")
_ENTITY: Final = re.compile(
    r"(?:(?<=_)|^)(?P<key>sub|ses|task|acq|ce|run|rec|dir|echo|part|inv|desc|space|label|res|den|mod|atlas|hemi|"
    r"proc|chunk|trc|cohort|from|to|mode)-(?P<value>[^\W_]+(?:\+[^\W_]+)*)(?=_|$)"
)
"""The entities of BIDS."""
Parts = tuple[tuple[str, Tag], ...]
_NO_AGENT: Final = {"none", "no", "pre", "without", "off"}
_SPEAKING: Final[Collection[Tag]] = {"contrast", "native", "tumour", "tissue", "part", "auto"}


@dataclass(frozen=True)
class Word:
    """A word of a name, its place in it, and its tag."""

    text: str
    start: int
    end: int
    tag: Tag


def split_words(stem: str) -> list[Word]:
    """Return the words of a file name without its ending; an entity of BIDS is one word."""
    words: list[Word] = []
    place = 0
    for entity in _ENTITY.finditer(stem):
        words += _plain(stem, place, entity.start())
        words += _entity(entity)
        place = entity.end()
    words += _plain(stem, place, len(stem))
    return _joined(words)


def _plain(stem: str, start: int, end: int) -> Iterable[Word]:
    for match in _WORD.finditer(stem, start, end):
        if match[0] in "+*":
            yield Word(match[0], match.start(), match.end(), "unknown")
            continue
        parts: Parts = _parts(match[0]) or ((match[0], "unknown"),)
        for text, tag in parts:
            yield Word(text.lower(), match.start(), match.end(), tag)


def _entity(entity: re.Match[str]) -> Iterable[Word]:
    """Yield the words of an entity: an agent and a description have a meaning, a space and a run do not."""
    key, value = entity["key"], entity["value"].lower()
    tags: list[Tag] = ["suffix"]
    if key in _IDENTITY:
        tags = ["unknown"]
    elif key == "ce":
        tags = ["native" if value in _NO_AGENT else "contrast"]
    elif key in ("acq", "rec", "desc", "label", "proc"):
        tags = [tag for _, tag in _parts(value) if tag in _SPEAKING] or ["suffix"]
    for tag in tags:
        yield Word(entity[0].lower(), entity.start(), entity.end(), tag)


@lru_cache(maxsize=4096)
def _parts(text: str) -> Parts:
    """Return a known word, or several that are written together, with their tags; else nothing."""
    lower = text.lower()
    if _NUMBER.fullmatch(lower):
        return ((lower, "number"),)
    if tag := "suffix" if _SIZE.fullmatch(lower) else _VOCABULARY.get(lower):
        return ((lower, tag),)
    glued = _glued(_PREFIX.sub("", lower))
    return tuple((part, _VOCABULARY.get(part, "link")) for part in glued)


@lru_cache(maxsize=4096)
def _glued(text: str) -> tuple[str, ...]:
    """Return the known words in `t1cebrain` or `flair2t1`, long ones first; none where a rest is left."""
    for length in range(len(text), 0, -1):
        first, rest = text[:length], text[length:]
        if (first == "2" and rest) or (length > 1 and first in _VOCABULARY):
            parts = _glued(rest) if rest else ()
            if parts or not rest:
                return (first, *parts)
    return ()


def _joined(words: list[Word]) -> list[Word]:
    """Return the words with known pairs joined; in `post op`, `post` is not the contrast agent."""
    joined: list[Word] = []
    for word in words:
        before = joined[-1] if joined else None
        tag = _TWO_WORDS.get((before.text, word.text)) if before else None
        if before and tag:
            joined[-1] = Word(f"{before.text} {word.text}", before.start, word.end, tag)
        elif before and before.text == "post" and word.text in _OPERATION:
            joined[-1] = Word("post op", before.start, word.end, "post")
        elif before and word.text == "iso" and _PARALLEL.fullmatch(before.text):
            joined[-1] = Word(f"{before.text} iso", before.start, word.end, "suffix")
        elif word.text != "+":
            joined.append(word)
    return joined


MODALITY_TAGS: Final[Mapping[str, Modality]] = {"t1": "t1", "t1ce": "t1ce", "t2": "t2", "flair": "flair"}
