"""The command line: one module per verb with `add_arguments` and `execute`, imported when the verb is called.

main         find the verb, turn errors into messages and exit codes
parser       argument parser that suggests the option or key that was probably meant
options      options shared by verbs; what they select; commands as text, also to resume a stopped run
short_options  options that are short names of keys
plan         what a run would do, and why
export_plan  the plan as rules of another scheduler
run          the pipeline in a workspace that is held for it; the last lines of a run
ablate       several recipes in one workspace, compared
tune         a search for better settings; `tune_trials` runs them, `tune_report` shows them
compare      two finished evaluations, paired by patient
models       architectures and encoders to choose from
predict      predictions for new cases: masks and tables
status       outputs and the last run; `--watch` follows a run in progress
doctor       whether a run can work here; `checks` has the checks
verify       all outputs read again
push, pull   finished outputs to a remote workspace, and from there
clean        superseded outputs deleted
config       the merged configuration
demo         status and stop of the demo
"""
