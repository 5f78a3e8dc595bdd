"""Image files: formats, decoding, and errors that name the file.

file_format   what a file is by its first bytes
nifti         voxels of NIfTI files, read and written
nifti_header  headers of NIfTI files: checks, affine, units
image2d       one picture as a grey image
image2d_deep  pictures that Pillow would reduce to 8 bits or cannot open
"""
