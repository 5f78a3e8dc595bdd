"""The command lines of the two services."""

import sys
from pathlib import Path
from typing import Final

from slicewise.config.schema import Config, Serving
from slicewise.demo.state import Service
from slicewise.serving.endpoints import API_HEALTH, API_URL_VARIABLE, HOST, PAGE_HEALTH

CHECKPOINT_NAME: Final = "best_model.pth"
CASES_DIR: Final = "cases"
_UTF8: Final = (("PYTHONUTF8", "1"), ("PYTHONIOENCODING", "utf-8"))
"""Logs and names in UTF-8, whatever the locale of the demo."""


def build_api_service(config: Config, home: Path, log_dir: Path) -> Service:
    """Return the service that runs `serving.api.server` with the checkpoint and the cases of `home`."""
    command = (
        *(sys.executable, "-m", "slicewise.serving.api.server"),
        *("--checkpoint", str(home.absolute() / CHECKPOINT_NAME)),
        *("--port", str(config.serving.api_port)),
        *("--device", config.runtime.device),
        *("--num-threads", str(config.runtime.num_threads)),
        *("--max-upload-mib", str(config.serving.max_upload_mib)),
        *("--settings", config.evaluation.model_dump_json()),
        *("--cases", str(home.absolute() / CASES_DIR)),
    )
    log_path = str(log_dir.absolute() / "demo-api.log")
    return Service("api", config.serving.api_port, API_HEALTH, log_path, command=command, environment=_UTF8)


def build_page_service(settings: Serving, log_dir: Path) -> Service:
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
    return Service(
        "page", settings.page_port, PAGE_HEALTH, log_path, command=command, environment=environment
    )
