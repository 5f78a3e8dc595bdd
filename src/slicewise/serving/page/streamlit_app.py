"""The Streamlit page. Every prediction comes from the API; `server.py` serves it."""

from collections.abc import Callable
from typing import Any, Final

import streamlit as st

from slicewise.core.errors import ServingError
from slicewise.domain.wording import wording as words_of_recipe
from slicewise.serving.page import finding as findings
from slicewise.serving.page import frame, wording
from slicewise.serving.page.batch import show_batch
from slicewise.serving.page.classification import show_classification
from slicewise.serving.page.client import ApiClient
from slicewise.serving.page.form import render_form
from slicewise.serving.page.patient import show_patient
from slicewise.serving.page.segmentation import show_segmentation

_BATCH, _PATIENT = "Batch", "Patient"
_OF_A_FINDING: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "Classification": show_classification,
    "Segmentation": show_segmentation,
    _PATIENT: show_patient,
}
_TABS: Final = ("Classification", "Segmentation", _BATCH, _PATIENT)


def main() -> None:
    st.set_page_config(page_title="SliceWise", page_icon=frame.favicon(), layout="wide")
    client = ApiClient.from_environment()
    try:
        info = client.model_info()
    except ServingError as error:
        frame.show_top(None)
        st.error(wording.plain(str(error)), icon=":material/error:")
        return
    with words_of_recipe(info["preprocessing"]["channels"], info["class_names"]):
        frame.show_top(info)
        _show_tabs(client, info)


def _show_tabs(client: ApiClient, info: dict[str, Any]) -> None:
    finding = findings.current(client)
    tabs = st.tabs(_TABS, key="tab", on_change="rerun", bind="query-params")
    for name, tab in zip(_TABS, tabs, strict=True):
        if not tab.open:
            continue
        with tab:
            try:
                if name == _BATCH:
                    show_batch(client, info)
                else:
                    render_form(client, info, finding, with_truth=name == _PATIENT)
                    if finding is not None:
                        frame.show_headline(finding)
                        _OF_A_FINDING[name](finding)
                        frame.show_origin(finding)
            except ServingError as error:
                st.error(wording.plain(str(error)), icon=":material/error:")
    frame.show_model(info)


main()
