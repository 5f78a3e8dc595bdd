"""The engine: steps, plans, receipts and runs. It knows no MRI, no torch and no numpy.

Step       what can be done, from which settings and which other steps
Receipt    what a finished output was made from, and the files it consists of
Workspace  where outputs live: homes, the shelf of superseded ones, partial work
plan       for each step run, reuse or skip, and why
execute    carries a plan out and keeps the record
"""
