"""Tools that every layer may use; they know nothing of imaging.

activity  the running step and the open progress bar, for `status` and `watch`
console   lines, colours and progress bars of the terminal
disk      errors of a full, read-only or closed disk; free space
errors    the exceptions raised on purpose, and their exit codes
files     atomic writing, safe JSON
hashing   SHA-256 of values and files
log_file  the log file of a run
machine   memory and processor: what is free, within containers too, and what is used
packages  versions of installed packages, and whether one offers something
parallel  jobs in worker processes
redact    credentials removed from every text
registry  implementations by name: built in, registered, offered by other packages
signals   Ctrl-C and SIGTERM
typed_json  JSON as dataclasses, every type checked
"""
