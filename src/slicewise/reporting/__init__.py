"""The report of a run: one page, the same as text, JSON, and a model card.

report      `write_report`: all four files; renders the page, with embedded pictures, and the card
sections    `build_report`: what the report says, from the files of the evaluation
model       what a model does and what its input is, in words
tables      those that the report and the card share
run         the run beside its metrics: steps, settings, split, folders; what a reader must know first
templates/  Jinja templates of the page and the card
"""
