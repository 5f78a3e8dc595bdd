"""The typed configuration: `schema` says what may be set, `compose` merges configs/ with the command line."""
