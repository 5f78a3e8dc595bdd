"""The command line: one module per verb, imported when the verb is called, and what the verbs share.

main         find the verb, turn errors into messages and exit codes
parser       argument parser that suggests the option or key that was probably meant
options      options shared by verbs; configuration, workspace and step selection from them
invocation   commands as text: as typed, to resume a stopped run, for a workspace
session      the workspace held for a run, a pipeline run in it, its plan printed
run, plan    the pipeline; what it would do
ablate       several recipes in one workspace, compared
compare      two finished evaluations, paired by patient
predict      predictions for new cases: masks and tables
status       outputs and the last run; `watch` follows a run in progress
summary      the last lines of a run: scores, outputs, demo
doctor       whether a run can work here; `checks` has the checks
verify       all outputs read again
clean        superseded outputs deleted
config       the merged configuration
demo         status and stop of the demo
"""
