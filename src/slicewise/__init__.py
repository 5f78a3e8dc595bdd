"""SliceWise: a reproducible pipeline for brain-tumour MRI, from download to demo."""

import os

__version__ = "0.2.0"

# OpenCV reads both at its first use. With Intel's IPP its results would depend on the processor, and
# differ by up to 1e-4 from those of installations without OpenCV; that it is off would be a warning on every start.
os.environ.setdefault("OPENCV_IPP", "disabled")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
