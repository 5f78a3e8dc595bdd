"""A request in a thread, while the page says what it waits for, since when, and its place in the queue."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from typing import Any, Final

import streamlit as st

from slicewise.core.errors import ServingError
from slicewise.serving.page.client import ApiClient, new_request_id

_POLL_SECONDS: Final = 0.5


def call_and_wait(watcher: ApiClient, what: str, call: Callable[[ApiClient, str], Any]) -> Any:
    """Return `call(client, request)`, where `request` is an id by which the API knows the request.

    That client is closed when the visitor leaves or starts something else: the API then drops the request.
    """
    client, request, started = ApiClient.from_environment(), new_request_id(), datetime.now()
    pool = ThreadPoolExecutor(1, thread_name_prefix="page-request")
    with st.status(f"{what} …") as status:
        try:
            future = pool.submit(call, client, request)
            while wait([future], _POLL_SECONDS).not_done:
                place = watcher.place_in_queue(request)
                status.update(label=waiting_text(what, started, datetime.now(), place))
            return future.result()
        except ServingError:
            status.update(label=f"{what} failed")
            raise
        finally:
            client.close()
            pool.shutdown(wait=False, cancel_futures=True)


def waiting_text(what: str, started: datetime, now: datetime, place: int | None) -> str:
    """Return what is waited for: `Examining A · since 12:30:05 (8 s) · 2 before it in the queue`."""
    parts = [what, f"since {started:%H:%M:%S} ({(now - started).total_seconds():.0f} s)"]
    if place is not None:
        parts.append(f"{place} before it in the queue" if place else "the model works on it")
    return " · ".join(parts)
