"""Run the API: `python -m slicewise.serving.api.server --checkpoint FILE --port PORT ...`."""

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from slicewise.config.schema import Evaluation
from slicewise.core.errors import SliceWiseError
from slicewise.inference.pipeline import Pipeline
from slicewise.serving import HOST
from slicewise.serving.api.app import create_app


def main(argv: Sequence[str]) -> int:
    """Load the model and serve it on this machine only. Return the exit code of a failed start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="slicewise.serving.api.server", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the model to serve")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), required=True)
    parser.add_argument("--num-threads", type=int, default=0, help="of the model; 0 selects automatically")
    parser.add_argument("--max-upload-mib", type=int, required=True)
    parser.add_argument("--settings", required=True, help="the section `evaluation` as JSON")
    parser.add_argument("--cases", type=Path, required=True, help="bundled cases")
    options = parser.parse_args(argv)
    settings = Evaluation.model_validate_json(options.settings)
    try:
        pipeline = Pipeline.load(
            options.checkpoint, device=options.device, settings=settings, **settings.inference._asdict()
        )
    except SliceWiseError as error:
        logging.getLogger(__name__).critical("%s", error)
        return error.exit_code
    app = create_app(
        pipeline,
        num_threads=options.num_threads,
        max_upload_mib=options.max_upload_mib,
        cases_dir=options.cases,
    )
    threading.Thread(target=app.state.service.warm_up, daemon=True).start()
    # Without `workers`, uvicorn reads WEB_CONCURRENCY, and refuses more than one for an app that is built.
    uvicorn.run(app, host=HOST, port=options.port, log_level="info", access_log=False, workers=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
