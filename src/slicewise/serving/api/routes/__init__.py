"""The routes of the API, a module per tag.

status       health, the model, the queue
predictions  one picture or volume, an upload or a bundled case
results      what belongs to a finding: JSON, pictures, NIfTI
shared       what they take, and the errors that they share
"""
