"""SliceWise: a reproducible pipeline for brain-tumour MRI, from download to demo."""

__version__ = "0.2.0"
