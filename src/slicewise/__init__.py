"""SliceWise: a reproducible pipeline for brain-tumour MRI, from download to demo."""

import os

__version__ = "0.2.0"

# OpenCV reads both at its first use. With Intel's IPP its results depend on the processor, and differ by up
# to 1e-4 from those of installations without OpenCV; on every start a warning would say that it is off.
os.environ.setdefault("OPENCV_IPP", "disabled")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
