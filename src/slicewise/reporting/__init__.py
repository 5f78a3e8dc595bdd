"""The report of a run: one page, the same as text, JSON, and a model card.

report      `write_report`: all four files; the JSON
sections    `build_report`: what the report says, from the files of the evaluation
html        report.html from the model, with embedded pictures
model_card  model_card.md
warnings    what a reader must know before the metrics
run_info    the run beside its metrics: steps, settings, split, folders
templates/  Jinja templates of the page and the card
"""
