"""The vocabulary of the project; it imports nothing above `core`.

keys    `SliceKey` and `CaseKey`, which join slices, cases and patients in every table
labels  modalities, label values and label formats of files, names of the two tasks
scores  names of scores in tables, the row of the stage comparison
tables  the rows of the other CSV tables, reading and writing them, wording of counts and thresholds
"""
