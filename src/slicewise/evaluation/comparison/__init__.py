"""Comparison of variants on the same test patients: stages, recipes, runs, folds, subsets of modalities.

variants  scores of each variant, and paired differences to the first: `compare`
output    the rows as CSV, JSON, Markdown, text and figure; what a stage gained; mean and range over seeds
runs      the tables of a finished evaluation, and what differs between two
"""
