"""The typed configuration.

schema    every key, its type and bounds
compose   merges configs/ with the command line (Hydra)
safety    refuses files and overrides that never end, read the environment or hold credentials
validate  checks the merged tree and reports all errors at once, each with its file or override
keys      the keys of the schema; suggestions for mistyped ones
export    the configuration as YAML; the difference of two
"""
