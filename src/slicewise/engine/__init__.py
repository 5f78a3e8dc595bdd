"""The engine: steps, plans, receipts and runs. It knows no MRI, no torch and no numpy.

step       what can be done: settings, needed steps, homes; the context in which it runs
plan       which steps a command line selects; for each one run, reuse or skip, and why
runner     carries a plan out, step by step
receipt    what a finished output was made from, and the checksums of its files
workspace  where outputs live: homes, the shelf of superseded ones, work in progress
shelf      a workspace for several runs at a time, whose outputs stay on the shelf
observers  called for every step: the console, trackers, those of other packages
remote     finished outputs in a folder or a bucket: receipts, and files by content
transfer   push an output to a remote workspace, pull one from there
record     `pipeline_results.json`, the record of the last run; versions and commit
lock       one controller per workspace, across machines too
fence      a process that was given up and wakes up writes nothing
clean      what `slicewise clean` deletes
verify     what `slicewise verify` reads and reports
"""
