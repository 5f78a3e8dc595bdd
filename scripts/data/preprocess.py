#!/usr/bin/env python3
"""Download, preprocess and split the data, and nothing more; `--help` lists the options.

The same as `slicewise run --mode data-only`, with the project's root as the workspace. Go on with
`scripts/run_full_pipeline.py --skip-preprocessing`, which takes the data as they are.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("SLICEWISE_WORKSPACE", str(Path(__file__).resolve().parents[2]))

from slicewise.cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["run", "--mode", "data-only"]
    raise SystemExit(main())
