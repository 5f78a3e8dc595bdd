"""The API and the page of the demo; `slicewise.demo` starts them.

api         FastAPI application: uploads in, predictions out
page        Streamlit page, a client of the API

The address and the health paths of both are here, where `slicewise plan` can import them without a library.
"""

from typing import Final

HOST: Final = "127.0.0.1"
API_URL_VARIABLE: Final = "SLICEWISE_API_URL"
"""Environment variable that holds the address of the API, read by the page."""
API_KEY_FILE_VARIABLE: Final = "SLICEWISE_API_KEY_FILE"
"""Environment variable with the path of the file of the API key, read by both."""
API_HEALTH: Final = "/healthz"
PAGE_HEALTH: Final = "/_stcore/health"
