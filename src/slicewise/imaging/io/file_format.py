"""What a file is, by its first bytes and not by its name."""

from pathlib import Path
from typing import Final

from slicewise.imaging.io.file_signatures import HEAD_BYTES, identify_format

PICTURES: Final = "JPEG, PNG, TIFF, BMP, GIF, WebP, AVIF, JPEG 2000, PGM and PPM"
PICTURE_SUFFIXES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp",
    ".avif", ".jp2", ".pgm", ".ppm",
)  # fmt: skip
"""Of files that claim to be pictures; whether they are, their content decides."""
_MAGICS: Final = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM",
    b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",
)  # fmt: skip
_AVIF: Final = (b"avif", b"avis")


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a picture of a format that is read."""
    if head[4:8] == b"ftyp":
        return any(brand in _AVIF for brand in _brands(head))
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    netpbm = head[:2] in (b"P5", b"P6") and head[2:3].isspace()
    return webp or netpbm or head.startswith(_MAGICS)


def explain_unread(head: bytes) -> str:
    """Return why a file that begins so is passed over, and what to do if it shows something."""
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp":
        return "a HEIC picture or a film; save it as PNG or TIFF"
    if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
        return "a NIfTI volume by its content, and not named .nii or .nii.gz"
    if head.startswith(b"\x1f\x8b"):
        return "compressed with gzip, and not named .nii.gz as a NIfTI volume would be"
    return identify_format(head) or "neither a picture nor a volume"


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file; none of one that cannot be opened."""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""


def looks_like_picture(path: Path) -> bool:
    """Whether a file is a picture, or says so by its name: who reads it names what is wrong with it."""
    return path.suffix.lower() in PICTURE_SUFFIXES or is_picture(read_head(path))


def explain_skipped(path: Path) -> str:
    """Return why a file of a data set is not read: its format, or that this data set holds other files."""
    head = read_head(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return "a volume, where volumes are not read"
    return "a picture, where pictures are not read" if is_picture(head) else explain_unread(head)


def _brands(head: bytes) -> list[bytes]:
    """Return the brands of an ISO media file: the major one, then the compatible ones (ISO 14496-12)."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[place : place + 4] for place in range(16, length - 3, 4))]
