"""Data: from the files of data sets to batches of slices.

sources        the kinds of data sets: which files are read, which cases they are, how a case is read
inputs         the cases in files and folders to predict
filenames      the case and modality in the name of a file; filename_words is its vocabulary
grouping       the files of a folder grouped into cases
duplicates     identical volumes, identical and near-identical pictures, within a source and across them
cases          the files of one case, checked by their headers, and its volume
problems       errors, warnings and notes about files, and their report
index          the cases of all sources, as JSON
split          the subset (train, val, test) of each patient
preprocess     the sealed slices of the cases, in parallel
store          sealed entries of slices on disk, and an open one
loading        datasets, batches, sampling and augmentation for training
download       data sets from Kaggle
phantom        generated patients and pictures
shapes         generated pictures of shapes with masks
"""
