"""Slices for training.

dataset   the slices of a subset, and a batch of them
loader    the slices of each batch of an epoch, gathered and prefetched
augment   random changes of a batch
"""
