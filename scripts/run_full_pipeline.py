#!/usr/bin/env python3
"""Run the whole pipeline, or the part of it that is out of date; `--help` lists the options.

The same as `slicewise run`, with the project's root as the workspace.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("SLICEWISE_WORKSPACE", str(Path(__file__).resolve().parents[1]))

from slicewise.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    raise SystemExit(main())
