"""The label of pictures by the name of their folder: tumour, no tumour, or none."""

import re
from collections.abc import Collection
from pathlib import Path

_ALSO = r"(brain|mris?|images?|imgs?|pictures?|photos?|scans?|slices?|cases?|patients?|class(es)?)*"
"""Neutral words before and after: `Brain Tumor Images`."""
_TUMOUR = r"tumou?r(s|ous)?"
_KIND = r"(gliomas?|meningiomas?|pituitary|metastas[ie]s)"
_YES = re.compile(rf"{_ALSO}(yes|positive?|{_TUMOUR}|{_KIND}{_ALSO}({_TUMOUR})?){_ALSO}")
_NO = re.compile(rf"no|none|{_ALSO}(negative?|normal|healthy|(no|non|not|without){_ALSO}{_TUMOUR}){_ALSO}")
"""A bare "no" stands alone: `no_mri` is not a folder of healthy brains, and `Patient No 12` is a number."""


def parse_label(folder: str) -> int | None:
    """Return 1 for the name of a folder with tumours, 0 for one without, else None."""
    name = re.sub(r"[^a-z]", "", folder.lower())
    if _NO.fullmatch(name):
        return 0
    return 1 if _YES.fullmatch(name) else None


def label_folders(folders: Collection[Path]) -> dict[Path, int | None]:
    """Return the label of the pictures in each folder, given relative to the root of the data set.

    The nearest labelled folder decides. One that holds labelled folders names the set, as in
    `Brain Tumor/no_tumor`: it decides only for the pictures directly in it. The name of the root does not
    count, and nothing below a folder `pred` has a label: it holds pictures to be examined.
    """
    around = {above for folder in folders for above in (folder, *folder.parents)}
    labels = {folder: label for folder in around if (label := parse_label(folder.name)) is not None}
    sets = {above for folder in labels for above in folder.parents}
    labelled: dict[Path, int | None] = dict.fromkeys(folders)
    for folder in folders:
        nearest = next((above for above in (folder, *folder.parents) if above in labels), None)
        is_set = nearest in sets and nearest != folder
        if nearest is not None and not is_set and "pred" not in map(str.lower, folder.parts):
            labelled[folder] = labels[nearest]
    return labelled
