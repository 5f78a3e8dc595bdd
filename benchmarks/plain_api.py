"""The same model behind a plain FastAPI handler: what `benchmarks.load` compares the API with."""

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, UploadFile
from fastapi.responses import Response

from slicewise.imaging.io.image2d import to_png
from slicewise.inference.pipeline import Pipeline
from slicewise.plots.slices import SliceRenderer


def make_app(checkpoint: Path, backend: str) -> FastAPI:
    """Return an application that predicts each request at once, in FastAPI's pool of threads."""
    app, pipeline = FastAPI(), Pipeline.load(checkpoint, device="cpu", backend=backend)

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/predict")
    def predict(file: UploadFile) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / str(file.filename)
            path.write_bytes(file.file.read())
            (case,), _ = pipeline.find([path])
            volume = case.read()
            prediction = pipeline.predict(case)
        renderer = SliceRenderer.of(volume)
        assert prediction.masks is not None
        assert prediction.mask is not None
        masks = zip(prediction.masks[:, 0], prediction.classes.colours, strict=True)
        drawings = {
            "picture_png": renderer.render(0),
            "mask_png": prediction.mask[0] * np.uint8(255),
            "overlay_png": renderer.render(0, masks=masks),
        }
        encoded = {name: base64.b64encode(to_png(each)).decode() for name, each in drawings.items()}
        return {**prediction.to_json(), **encoded}

    @app.post("/segment")
    def segment(flair: UploadFile) -> Response:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / str(flair.filename)
            path.write_bytes(flair.file.read())
            content = pipeline.predict(path, channels="flair").mask_nifti()
        return Response(content, media_type="application/gzip")

    return app


if __name__ == "__main__":
    model, served_port, runner = sys.argv[1:]
    uvicorn.run(make_app(Path(model), runner), host="127.0.0.1", port=int(served_port), log_level="warning")
