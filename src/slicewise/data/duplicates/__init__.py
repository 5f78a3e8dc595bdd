"""Duplicates, which must not be in two subsets of a split.

exact        volumes that are identical byte for byte
across       patients that are in several sources
perceptual   pictures that are identical or near-identical
"""
