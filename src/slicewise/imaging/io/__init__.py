"""Image files: formats, decoding, and errors that name the file.

file_format   what a file is by its first bytes
nifti         voxels of NIfTI files, read and written
nifti_header  headers of NIfTI files: checks, affine, units
image2d       one picture as a grey image
"""
