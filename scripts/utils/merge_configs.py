#!/usr/bin/env python3
"""Write the nine configs/final/multitask_<stage>_<mode>.yaml, identical bytes every time."""

import sys

from slicewise.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["config", "--write", *sys.argv[1:]]))
