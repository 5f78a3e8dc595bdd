"""The vocabulary of the project; it imports nothing above `core`.

keys    `SliceKey` and `CaseKey`, which join slices, cases and patients in every table
labels  modalities, label values and label formats of files, names of the two tasks
report  sections, tables, notices and figures of a report as data; plain text and Markdown
tables  the rows of the CSV tables, reading and writing them, wording of counts and thresholds
wording the words of a recipe: patients with tumours, or pictures with objects
"""
