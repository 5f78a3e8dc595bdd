"""One case as arrays: files are read and compared, the head is located, slices are cut and normalised.

io           reading and writing of NIfTI volumes and 2-D images
volume       `Volume`, one case in the radiological view [slice, row, col]
orientation  how a file's voxel grid lies in the patient; whether two files lie on the same grid
mask_values  the meaning of the values of a mask
foreground   where the brain or the head is; the background level of an image
intensity    z-score normalisation
slicing      `extract_slices`: a volume as normalised square slices; which of them train; the way back
"""
