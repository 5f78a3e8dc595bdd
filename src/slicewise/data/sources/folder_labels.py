"""What the names of folders say about the pictures in them: tumour, no tumour, or nothing."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

_ALSO = r"(brain|mris?|images?|imgs?|pictures?|photos?|scans?|slices?|cases?|patients?|class(es)?)*"
"""Words that say nothing, before and after those that do: `Brain Tumor Images`."""
_TUMOUR = r"tumou?r(s|ous)?"
_KIND = r"(gliomas?|meningiomas?|pituitary|metastas[ie]s)"
_YES = re.compile(rf"{_ALSO}(yes|positive?|{_TUMOUR}|{_KIND}{_ALSO}({_TUMOUR})?){_ALSO}")
_NO = re.compile(rf"no|none|{_ALSO}(negative?|normal|healthy|(no|non|not|without){_ALSO}{_TUMOUR}){_ALSO}")
"""A bare "no" stands alone: `no_mri` is not a folder of healthy brains, and `Patient No 12` is a number."""


def parse_label(folder: str) -> int | None:
    """Return 1 for the name of a folder with tumours, 0 for one without, None where it says neither."""
    name = re.sub(r"[^a-z]", "", folder.lower())
    if _NO.fullmatch(name):
        return 0
    return 1 if _YES.fullmatch(name) else None


def label_folders(folders: Collection[Path]) -> dict[Path, int | None]:
    """Return the label of the pictures in each folder, given relative to the root of the data set.

    The nearest folder that says yes or no decides. One that holds such folders itself names the set, as in
    `Brain Tumor/no_tumor`: it decides about the pictures directly in it and about no others. What the root
    is called says nothing, and no label counts below a folder `pred`, which holds pictures to be examined.
    """
    around = {above for folder in folders for above in (folder, *folder.parents)}
    said = {folder: label for folder in around if (label := parse_label(folder.name)) is not None}
    sets = {above for folder in said for above in folder.parents}
    return {folder: _label(folder, said, sets) for folder in folders}


def _label(folder: Path, said: Mapping[Path, int], sets: Collection[Path]) -> int | None:
    if "pred" in map(str.lower, folder.parts):
        return None
    nearest = next((above for above in (folder, *folder.parents) if above in said), None)
    return None if nearest is None or (nearest in sets and nearest != folder) else said[nearest]
