"""The typed configuration.

schema    every key, its type and bounds
cache     composed configurations, kept in a workspace
compose   merges configs/ with the command line (Hydra), checks the result, reports all errors at once
folders   where the files are
layers    which keys each of the files sets
safety    refuses files and overrides that never end, read the environment or hold credentials
keys      the keys of the schema; suggestions for mistyped ones
export    the configuration as YAML; the difference of two
"""
