"""The routes of the API, a module per tag.

status       health, the model, the queue, metrics
predictions  one picture or volume, an upload or a bundled case
tasks        one task alone: classification with Grad-CAM, segmentation
batches      many files in one request
patients     an examination: volumes, a ZIP, a stack; with a reference
results      what belongs to a finding: JSON, pictures, NIfTI
shared       what they take, and the errors that they share
"""
