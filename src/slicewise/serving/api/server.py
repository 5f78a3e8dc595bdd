"""Run the API: `python -m slicewise.serving.api.server --checkpoint FILE --port PORT ...`."""

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import SliceWiseError
from slicewise.serving.api.app import create_app
from slicewise.serving.endpoints import HOST


def main(argv: Sequence[str]) -> int:
    """Load the model and serve it on this machine only. Return the exit code of a failed start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="slicewise.serving.api.server", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the model to serve")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), required=True)
    parser.add_argument("--num-threads", type=int, default=0, help="of the model; 0 selects automatically")
    parser.add_argument("--max-upload-mib", type=int, required=True)
    parser.add_argument("--class-threshold", type=float, required=True)
    parser.add_argument("--mask-threshold", type=float, required=True)
    parser.add_argument("--component-share", type=float, default=0.0)
    parser.add_argument("--calibration", type=Path, dest="calibration_path", help="file of the evaluation")
    parser.add_argument("--flips", action="store_true", help="test-time augmentation: mirror image")
    parser.add_argument("--rotation", type=float, default=0.0, help="test-time augmentation: degrees")
    parser.add_argument("--mask-smoothing", type=float, default=0.0, help="standard deviation in slices")
    parser.add_argument("--class-smoothing", type=float, default=0.0, help="standard deviation in slices")
    parser.add_argument("--cases", type=Path, dest="cases_dir", required=True, help="bundled cases")
    options = vars(parser.parse_args(argv))
    port = options.pop("port")
    inference = InferenceSettings(**{name: options.pop(name) for name in InferenceSettings._fields})
    try:
        app = create_app(options.pop("checkpoint"), inference=inference, **options)
    except SliceWiseError as error:
        logging.getLogger(__name__).critical("%s", error)
        return error.exit_code
    threading.Thread(target=app.state.service.warm_up, daemon=True).start()
    # Without `workers`, uvicorn reads WEB_CONCURRENCY, and refuses more than one for an app that is built.
    uvicorn.run(app, host=HOST, port=port, log_level="info", access_log=False, workers=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
