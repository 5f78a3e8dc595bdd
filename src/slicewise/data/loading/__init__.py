"""Slices for training.

dataset   the slices of a subset, and a batch of them
sampler   the slices of each batch of an epoch
loader    the batches of an epoch, prefetched
augment   random changes of a batch
"""
