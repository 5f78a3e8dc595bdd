#!/usr/bin/env python3
"""Serve the trained model, API and page, until Ctrl-C; `--help` lists the options.

The same as `slicewise serve`, with the project's root as the workspace. `slicewise run --mode demo` starts
the same two services in the background.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("SLICEWISE_WORKSPACE", str(Path(__file__).resolve().parents[2]))

from slicewise.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "serve")
    raise SystemExit(main())
