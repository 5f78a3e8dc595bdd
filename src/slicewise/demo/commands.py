"""The command lines of the two services."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slicewise.config.schema import Serving
from slicewise.config.schema.evaluation import PLAIN_INFERENCE, InferenceSettings
from slicewise.demo.spec import ServiceSpec
from slicewise.serving.endpoints import API_HEALTH, API_URL_VARIABLE, HOST, PAGE_HEALTH

_UTF8: Final = (("PYTHONUTF8", "1"), ("PYTHONIOENCODING", "utf-8"))
"""Logs and names in UTF-8, whatever the locale of the demo."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The model that the API serves, its thresholds and its inference settings."""

    checkpoint_path: Path
    device: str
    class_threshold: float
    mask_threshold: float
    cases_dir: Path
    calibration_path: Path | None = None
    """Thresholds and calibration chosen by the evaluation of this checkpoint; None without one."""
    inference: InferenceSettings = PLAIN_INFERENCE
    component_share: float = 0.0
    num_threads: int = 0


def build_api_service(settings: Serving, options: ModelOptions, log_dir: Path) -> ServiceSpec:
    """Return the service that runs `serving.api.server`."""
    calibration = options.calibration_path
    command = (
        *(sys.executable, "-m", "slicewise.serving.api.server"),
        *("--checkpoint", str(options.checkpoint_path.absolute())),
        *("--port", str(settings.api_port)),
        *("--device", options.device),
        *("--num-threads", str(options.num_threads)),
        *("--max-upload-mib", str(settings.max_upload_mib)),
        *("--class-threshold", str(options.class_threshold)),
        *("--mask-threshold", str(options.mask_threshold)),
        *("--component-share", str(options.component_share)),
        *("--cases", str(options.cases_dir.absolute())),
        *(("--calibration", str(calibration.absolute())) if calibration else ()),
        *("--rotation", str(options.inference.rotation)),
        *("--mask-smoothing", str(options.inference.mask_smoothing)),
        *("--class-smoothing", str(options.inference.class_smoothing)),
        *(("--flips",) if options.inference.flips else ()),
    )
    log_path = str(log_dir.absolute() / "demo-api.log")
    return ServiceSpec("api", command, _UTF8, settings.api_port, API_HEALTH, log_path)


def build_page_service(settings: Serving, log_dir: Path) -> ServiceSpec:
    """Return the Streamlit service: local only, no usage statistics, no prompts, no file watcher."""
    options = {
        "server.address": HOST,
        "server.port": settings.page_port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.showEmailPrompt": "false",
        "server.maxUploadSize": settings.max_upload_mib,
        "browser.serverAddress": HOST,
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.base": "light",
        "theme.primaryColor": "#c2410c",
    }
    flags = (part for key, value in options.items() for part in (f"--{key}", str(value)))
    page = str(Path(__file__).parents[1] / "serving" / "page" / "streamlit_app.py")
    command = (sys.executable, "-m", "streamlit", "run", page, *flags)
    environment = (*_UTF8, (API_URL_VARIABLE, f"http://{HOST}:{settings.api_port}"))
    log_path = str(log_dir.absolute() / "demo-page.log")
    return ServiceSpec("page", command, environment, settings.page_port, PAGE_HEALTH, log_path)
