"""The report of a run: one page, the same as text, JSON, and a model card.

report      `write_report`: all four files; the JSON
html        report.html
text        report.txt
model_card  model_card.md
content     what they share: tables, template environment
scores      metrics as lines of tables
warnings    what a reader must know before the metrics
figures     pictures of the page, shrunk and embedded
run_info    the run beside its metrics: steps, settings, split, folders
templates/  Jinja templates of the page and the card
"""
