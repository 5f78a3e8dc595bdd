"""The tasks of a model: what its heads give, how they are trained and measured.

- `base`: the interface of a task, and what it knows of the slices that it is measured on.
- `segmentation`: classes of a pixel, which may overlap (sigmoid) or exclude each other (softmax).
- `classification`: the class of a slice.
- `losses`: segmentation losses by name; another package can add some.
- `build`: the tasks of a configuration or checkpoint.

A recipe that lacks a task has neither its head nor its metrics.
"""
