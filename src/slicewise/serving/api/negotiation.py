"""Which representation a client accepts (RFC 9110, section 12.5.1): JSON, PNG, NIfTI, DICOM-SEG."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from slicewise.serving.api.problems import RequestError

JSON: Final = "application/json"
PNG: Final = "image/png"
NIFTI: Final = "application/gzip"
DICOM: Final = "application/dicom"
_NAMES: Final = {JSON: "JSON", PNG: "PNG", NIFTI: "NIfTI", DICOM: "DICOM-SEG"}
_ALIASES: Final = {"application/x-nifti": NIFTI, "application/x-gzip": NIFTI, "image/x.nifti": NIFTI}


class _Range(NamedTuple):
    """A media range of the header Accept."""

    media: str
    quality: float

    def precision(self, media: str) -> int:
        """Return how precisely the range names a media type; 0 if it does not."""
        kind = media.partition("/")[0]
        return {"*/*": 1, f"{kind}/*": 2, media: 3}.get(self.media, 0)


def acceptable(accept: str | None, offered: Sequence[str]) -> list[str]:
    """Return the offered media types that a client accepts, the one it prefers first.

    Args:
        accept: the header; None or empty: everything.
        offered: in the order of the server, which decides between equals.

    Raises:
        RequestError: 406, it accepts none of them.
    """
    ranges = _parse(accept or "*/*")
    qualities = {media: _quality(media, ranges) for media in offered}
    found = sorted((media for media in offered if qualities[media] > 0), key=lambda media: -qualities[media])
    if not found:
        raise not_acceptable(offered, "this address responds with")
    return found


def choose(accepted: Sequence[str], available: Sequence[str], why: str) -> str:
    """Return the first of the accepted media types that there is for this input.

    Raises:
        RequestError: 406; `why` says why others are not available.
    """
    found = next((media for media in accepted if media in available), None)
    if found is None:
        raise not_acceptable(available, f"{why}, so the response may be")
    return found


def not_acceptable(offered: Sequence[str], words: str) -> RequestError:
    """Return the error that lists what is offered."""
    names = " or ".join(f"{_NAMES[media]} ({media})" for media in offered)
    return RequestError(406, f"{words} {names}; change the header Accept", faults={"accept": "not offered"})


def _parse(accept: str) -> list[_Range]:
    ranges = []
    for part in accept.split(","):
        media, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = 1.0
        for name, _, value in (parameter.partition("=") for parameter in parameters):
            if name.strip() == "q":
                quality = _number(value)
        ranges.append(_Range(_ALIASES.get(media, media), quality))
    return ranges


def _number(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def _quality(media: str, ranges: Sequence[_Range]) -> float:
    """Return the quality of the range that names the media type most precisely."""
    fitting = [(each.precision(media), each.quality) for each in ranges if each.precision(media)]
    return max(fitting)[1] if fitting else 0.0
