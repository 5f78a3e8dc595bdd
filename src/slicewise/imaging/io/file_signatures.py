"""What a file is by its first bytes, where it is not the NIfTI that its name promises."""

import re
from typing import Final

HEAD_BYTES: Final = 1024
"""As many of a file's first bytes as `identify_format` looks at."""

_ARCHIVE: Final = "; unpack it and use the files in it"
_PICTURE: Final = "; give it the suffix of its kind"
_SAVE: Final = "; save it as PNG or TIFF"
_CONVERT: Final = "; convert it to .nii.gz (for example with 3D Slicer or SimpleITK)"
_FREESURFER: Final = "; convert it to .nii.gz (`mri_convert in.mgz out.nii.gz`)"
_DICOM: Final = "; convert the series to .nii.gz (`dcm2niix FOLDER`)"
_ARRAY: Final = "; write the array with its affine as .nii.gz (nibabel.Nifti1Image)"
_PAIR: Final = "; write header and image as one .nii.gz (nibabel.load and nibabel.save)"
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


def identify_format(head: bytes) -> str | None:
    """Return what a file with these first bytes is and what to do with it; None where that is not known."""
    for start, kind in _BY_START.items():
        if head.startswith(start):
            return kind
    if head[128:132] == b"DICM":
        return "a DICOM file" + _DICOM
    if head[257:262] == b"ustar":
        return "a tar archive" + _ARCHIVE
    if _HTML.match(head):
        return "an HTML page, as of a log-in or an error in place of a download" + _FETCH
    if _XML_OR_JSON.match(head):
        return "JSON or XML text, as of an error in place of a download" + _FETCH
    if head and not any(head):
        return "a file of zeros, as after a copy or download that was not finished" + _FETCH
    return _volume_of_another_kind(head)


def _volume_of_another_kind(head: bytes) -> str | None:
    """Recognise formats that have a layout but no magic of their own."""
    if head[:4] in ((348).to_bytes(4, "little"), (348).to_bytes(4, "big")) and len(head) >= 348:
        pair = head[344:347] == b"ni1"
        return ("the header of a NIfTI pair (.hdr with .img)" if pair else "an Analyze 7.5 header") + _PAIR
    numbers = [int.from_bytes(head[place : place + 4], "big") for place in range(0, 28, 4)]
    version, *sizes, kind, _ = numbers
    if len(head) >= 284 and version == 1 and kind in _MGH_TYPES and all(0 < size < 1 << 15 for size in sizes):
        return "a FreeSurfer MGH volume" + _FREESURFER
    return None
