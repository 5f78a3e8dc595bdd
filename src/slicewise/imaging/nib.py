"""nibabel, imported without pydicom, which it would load for an extension that is not read, in a second."""

import sys

_is_absent = "pydicom" not in sys.modules
if _is_absent:
    sys.modules["pydicom"] = None  # type: ignore[assignment]  # its import then fails at once
try:
    import nibabel as nib
    from nibabel import orientations
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError
finally:
    if _is_absent:
        del sys.modules["pydicom"]

__all__ = ["HeaderDataError", "WrapStructError", "nib", "orientations"]
