#!/usr/bin/env python3
"""Write configs/final/<recipe>_<stage>_<mode>.yaml of every stage and mode, identical bytes every time."""

import sys

from slicewise.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["config", "--write", *sys.argv[1:]]))
