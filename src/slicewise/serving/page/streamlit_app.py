"""The Streamlit page. Every prediction comes from the API."""

import os
from typing import Any

import streamlit as st
from PIL import Image, ImageDraw

from slicewise.core.errors import ServingError
from slicewise.domain.labels import NOTICE, SYNTHETIC_WARNING
from slicewise.serving import API_URL_VARIABLE
from slicewise.serving.page.client import ApiClient
from slicewise.serving.page.inputs import render_inputs
from slicewise.serving.page.outputs import render_prediction

_STYLE = """
<style>
.block-container {padding: 2.2rem 2rem 3rem; max-width: 70rem;}
h1 {padding: 0 !important;}
[data-testid="stMetricValue"] {font-size: 1.6rem;}
@media (max-width: 640px) {
  .block-container {padding: 4rem 1rem 3rem;}
  h1 {font-size: 1.9rem !important;}
  [data-testid="stMetricValue"] {font-size: 1.3rem;}
  [data-testid="stColumn"]:has([data-testid="stMetric"]) {
    flex: 1 1 calc(50% - 1rem); min-width: calc(50% - 1rem);
  }
}
</style>
"""


def main() -> None:
    st.set_page_config(page_title="SliceWise", page_icon=_favicon(), layout="wide")
    st.html(_STYLE)
    st.title("SliceWise", anchor=False)
    purpose = st.empty()
    purpose.markdown(f"Finds and outlines brain tumours in MRI pictures and volumes.  \n**{NOTICE}**")
    client = ApiClient(os.environ[API_URL_VARIABLE])
    try:
        info = client.model_info()
        names = [name.replace("_", " ") for name in info["class_names"]]
        if len(names) > 2:
            purpose.markdown(
                f"Tells {', '.join(names[:-1])} and {names[-1]} apart in pictures.  \n**{NOTICE}**"
            )
        _show_model_info(info)
        with st.container(border=True):
            render_inputs(client, info)
        render_prediction(client, info)
    except ServingError as error:
        st.error(str(error), icon=":material/error:")


def _favicon() -> Image.Image:
    """Return the icon of the tab; an emoji would be fetched from another site."""
    icon = Image.new("RGBA", (64, 64))
    pen = ImageDraw.Draw(icon)
    pen.ellipse((4, 2, 60, 62), fill="#334155")
    pen.ellipse((32, 18, 50, 36), fill="#ea580c")
    return icon


def _show_model_info(info: dict[str, Any]) -> None:
    """Show the model in the sidebar."""
    model = info["model"]
    rows = {
        "Model": f"{model['architecture']} with {model['encoder']}",
        "Stage": info["stage"],
        "Trained on": info["data_name"] + (" (generated patients)" if info["synthetic"] else ""),
        "Tasks": ", ".join(info["tasks"]),
        "Slice": f"{info['preprocessing']['image_size']} pixels square",
        **{
            f"Operating point, {kind}": f"{point['decision']} ({point['origin']})"
            for kind, point in info["operating_points"].items()
        },
        "Device": info["device"],
        "Fingerprint": f"`{info['fingerprint'][:12]}`",
    }
    rows |= {name: f"{value:.3f} (validation)" for name, value in info["metrics"].items()}
    with st.sidebar:
        st.subheader("About", anchor=False)
        if info["synthetic"]:
            st.info(SYNTHETIC_WARNING)
        with st.expander("The model", expanded=False):
            st.markdown("\n".join(f"- **{name}:** {value}" for name, value in rows.items()))
        st.caption(info["notice"])


main()
