"""What a file is, by its first bytes and not by its name."""

import re
from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 1024
"""Number of bytes at the start of a file that the functions below look at."""
PICTURES: Final = "JPEG, PNG, TIFF, BMP, GIF, WebP, AVIF, JPEG 2000, PGM and PPM"
PICTURE_SUFFIXES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp",
    ".avif", ".jp2", ".pgm", ".ppm",
)  # fmt: skip
"""Suffixes of files that should be pictures; their content decides whether they are."""
TIFF_MAGICS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAGICS: Final = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", *TIFF_MAGICS, b"BM",
    b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",
)  # fmt: skip

_ARCHIVE: Final = "; unpack it and use the files in it"
_PICTURE: Final = "; give it the suffix of its kind"
_SAVE: Final = "; save it as PNG or TIFF"
_CONVERT: Final = "; convert it to .nii.gz (for example with 3D Slicer or SimpleITK)"
_ARRAY: Final = "; write the array with its affine as .nii.gz (nibabel.Nifti1Image)"
_FETCH: Final = "; fetch the file again"

_BY_START: Final = {
    b"PK\x03\x04": "a zip archive" + _ARCHIVE,
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive" + _ARCHIVE,
    b"Rar!": "a RAR archive" + _ARCHIVE,
    b"BZh": "a bzip2 archive" + _ARCHIVE,
    b"\xfd7zXZ\0": "an xz archive" + _ARCHIVE,
    b"\x28\xb5\x2f\xfd": "a zstd archive" + _ARCHIVE,
    b"\x89PNG\r\n": "a PNG picture" + _PICTURE,
    b"\xff\xd8\xff": "a JPEG picture" + _PICTURE,
    b"II*\0": "a TIFF picture" + _PICTURE,
    b"MM\0*": "a TIFF picture" + _PICTURE,
    b"GIF8": "a GIF picture" + _PICTURE,
    b"%PDF": "a PDF document; export the images as DICOM or NIfTI",
    b"%!PS": "PostScript" + _SAVE,
    b"8BPS": "a Photoshop picture" + _SAVE,
    b"\xff\x0a": "a JPEG XL picture" + _SAVE,
    b"\0\0\0\x0cJXL ": "a JPEG XL picture" + _SAVE,
    b"v/1\x01": "an OpenEXR picture" + _SAVE,
    b"NRRD": "an NRRD volume" + _CONVERT,
    b"ObjectType": "a MetaImage volume" + _CONVERT,
    b"CDF\x01": "a MINC volume" + _CONVERT,
    b"\x89HDF\r\n": "an HDF5 file, as of MINC 2 or MATLAB" + _CONVERT,
    b"MATLAB 5.0": "a MATLAB file" + _ARRAY,
    b"\x93NUMPY": "a NumPy array" + _ARRAY,
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; run `git lfs pull`",
    b"/annex/objects/": "a pointer of git-annex, not the file itself; run `datalad get` or `git annex get`",
}
_HTML: Final = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body)", re.IGNORECASE)
_XML_OR_JSON: Final = re.compile(rb"\s*(\xef\xbb\xbf)?\s*(<\?xml|\{\s*\"|\[\s*\{)")
_MGH_TYPES: Final = (0, 1, 3, 4, 10)


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file; none of one that cannot be opened."""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""


def is_picture(head: bytes) -> bool:
    """Return whether a file that begins so is a picture of a supported format."""
    if head[4:8] == b"ftyp":  # ISO 14496-12: the major brand, then the compatible ones
        length = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[place : place + 4] for place in range(16, length - 3, 4))]
        return b"avif" in brands or b"avis" in brands
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    netpbm = head[:2] in (b"P5", b"P6") and head[2:3].isspace()
    return webp or netpbm or head.startswith(_MAGICS)


def looks_like_picture(path: Path) -> bool:
    """Return whether a file is a picture by its name or its content; a damaged one fails when it is read."""
    return path.suffix.lower() in PICTURE_SUFFIXES or is_picture(read_head(path))


def explain_unread(head: bytes) -> str:
    """Return why a file that begins so is not read, and how to convert it."""
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp":
        return "a HEIC picture or a film; save it as PNG or TIFF"
    if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
        return "a NIfTI volume by its content, and not named .nii or .nii.gz"
    if head.startswith(b"\x1f\x8b"):
        return "compressed with gzip, and not named .nii.gz as a NIfTI volume would be"
    return identify_format(head) or "neither a picture nor a volume"


def explain_skipped(path: Path) -> str:
    """Return why a file of a data set is not read: its format, or that this data set holds other files."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return "a volume, where volumes are not read"
    head = read_head(path)
    return "a picture, where pictures are not read" if is_picture(head) else explain_unread(head)


def identify_format(head: bytes) -> str | None:
    """Return what a file with these first bytes is and how to use it; None if unknown."""
    for start, kind in _BY_START.items():
        if head.startswith(start):
            return kind
    if head[128:132] == b"DICM":
        return "a DICOM file; convert the series to .nii.gz (`dcm2niix FOLDER`)"
    if head[257:262] == b"ustar":
        return "a tar archive" + _ARCHIVE
    if _HTML.match(head):
        return "an HTML page, as of a log-in or an error in place of a download" + _FETCH
    if _XML_OR_JSON.match(head):
        return "JSON or XML text, as of an error in place of a download" + _FETCH
    if head and not any(head):
        return "a file of zeros, as after a copy or download that was not finished" + _FETCH
    return _identify_by_layout(head)


def _identify_by_layout(head: bytes) -> str | None:
    """Identify formats without a magic number of their own."""
    if head[:4] in ((348).to_bytes(4, "little"), (348).to_bytes(4, "big")) and len(head) >= 348:
        pair = head[344:347] == b"ni1"
        kind_of_header = "the header of a NIfTI pair (.hdr with .img)" if pair else "an Analyze 7.5 header"
        return f"{kind_of_header}; write header and image as one .nii.gz (nibabel.load and nibabel.save)"
    numbers = [int.from_bytes(head[place : place + 4], "big") for place in range(0, 28, 4)]
    version, *sizes, kind, _ = numbers
    if len(head) >= 284 and version == 1 and kind in _MGH_TYPES and all(0 < size < 1 << 15 for size in sizes):
        return "a FreeSurfer MGH volume; convert it to .nii.gz (`mri_convert in.mgz out.nii.gz`)"
    return None
