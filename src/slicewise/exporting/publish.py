"""Publish an exported folder on the Hugging Face Hub."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from slicewise.core.errors import PublishError, UsageError

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]{0,95}")
_PATIENT_DATA: Final = (".nii", ".nii.gz", ".dcm", ".mha", ".nrrd", ".npy", ".npz", ".csv", ".zip")
_EXECUTABLE: Final = (".pth", ".pt", ".ckpt", ".pkl")
"""Pickles, which run code where they are read carelessly"""
_HIDDEN: Final = "."
_CONNECTION: Final[tuple[type[Exception], ...]] = tuple(
    kind for kind in HfHubHTTPError.__mro__ if issubclass(kind, Exception) and kind is not Exception
)
"""What the client's own HTTP library raises, whichever it is"""
_REASONS: Final = {
    401: "the token is invalid or has expired",
    403: "the token may not write there: it needs the right `write` for this repository",
    404: "there is no such user or repository, or the token may not see it",
    413: "a file is larger than the server accepts",
    429: "too many requests; wait some minutes",
}


@dataclass(frozen=True)
class Upload:
    """What a publication would push."""

    folder: Path
    repository: str
    files: tuple[tuple[str, int], ...]
    """(path in the repository, bytes), sorted"""

    @property
    def num_bytes(self) -> int:
        return sum(size for _, size in self.files)


def plan_upload(folder: Path, repository: str) -> Upload:
    """Return the files that would be pushed to `user/name`; hidden ones are left out.

    Raises:
        UsageError: the name is no repository's, the folder has no model card, or it holds files that may be
            patient data or run code when they are read.
    """
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise UsageError(f"--to {repository!r} is not a repository; write it as user/name")
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; write one with `slicewise export --format huggingface`")
    card = folder / "README.md"
    if not card.is_file() or not ModelCard.load(card, ignore_metadata_errors=True).data.to_dict():
        raise UsageError(
            f"{folder} has no model card (README.md that begins with YAML between lines of ---); write the "
            "folder with `slicewise export --format huggingface`"
        )
    files = tuple(sorted(_files(folder)))
    _refuse(
        folder, [name for name, _ in files if name.lower().endswith(_PATIENT_DATA)], "may be patient data"
    )
    _refuse(
        folder,
        [name for name, _ in files if name.lower().endswith(_EXECUTABLE) and not name.startswith("models/")],
        "can run code when it is read",
    )
    return Upload(folder, repository, files)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_symlink():
            raise UsageError(f"{path} is a link; only files of the folder itself are published")
        if path.is_file() and not any(part.startswith(_HIDDEN) for part in name.parts):
            yield name.as_posix(), path.stat().st_size


def _refuse(folder: Path, names: list[str], why: str) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UsageError(f"{folder / names[0]}{more} {why}; take it out of the folder, then publish again")


def push(upload: Upload, *, private: bool = False, message: str = "", api: HfApi | None = None) -> str:
    """Create the repository where there is none, push the files in one commit, and return its address.

    The token is that of the environment variable HF_TOKEN, or of `hf auth login`.

    Raises:
        UsageError: there is no token.
        PublishError: the server refuses, or cannot be reached; nothing is then changed there but, at most,
            an empty repository.
    """
    token = (api.token if api else None) or get_token()
    if not token:
        raise UsageError(
            "no token of the Hugging Face Hub; make one with the right `write` at "
            "https://huggingface.co/settings/tokens and set HF_TOKEN"
        )
    hub = api or HfApi(token=token, library_name="slicewise")
    names = [name for name, _ in upload.files]
    try:
        url = hub.create_repo(upload.repository, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=upload.repository,
            folder_path=upload.folder,
            allow_patterns=names,
            commit_message=message or f"Publish {upload.folder.name}",
        )
    except HFValidationError as error:
        raise UsageError(f"--to {upload.repository!r} is not a repository: {error}") from error
    except HfHubHTTPError as error:
        raise PublishError(_explain(upload, error)) from error
    except _CONNECTION as error:  # OSError among them
        raise PublishError(f"{hub.endpoint} cannot be reached ({error}); try again later") from error
    return str(url)


def _explain(upload: Upload, error: Any) -> str:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    said = getattr(error, "server_message", None) or str(error).splitlines()[0]
    reason = _REASONS.get(status, f"the server answered {status or 'nothing'}")
    return f"{upload.repository} was not published: {reason} ({said})"
