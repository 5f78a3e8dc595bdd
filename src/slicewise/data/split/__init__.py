"""The split of the patients into train, val and test.

assignment   the split, the subset of each patient by the seed, folds, and the share that a mode uses
predefined   the users' own split, by a file or by folders
split_file   reads the file of `split.file`
"""
