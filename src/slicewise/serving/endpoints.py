"""Address and paths of the demo's services. Standard library only, because `slicewise plan` imports it."""

from typing import Final

HOST: Final = "127.0.0.1"
API_URL_VARIABLE: Final = "SLICEWISE_API_URL"
"""Environment variable that holds the address of the API, read by the page."""
API_HEALTH: Final = "/healthz"
PAGE_HEALTH: Final = "/_stcore/health"
