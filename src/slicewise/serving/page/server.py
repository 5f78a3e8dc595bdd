"""The server of the page, which `streamlit run` starts: Streamlit's, with the routes of `routes`."""

from pathlib import Path

from streamlit.starlette import App

from slicewise.serving.page.routes import ROUTES

app = App(Path(__file__).with_name("streamlit_app.py"), routes=ROUTES)
