"""The API and the page of the demo; `slicewise.demo` starts them.

endpoints   address, environment variable and health paths of both; standard library only
api         FastAPI application: uploads in, predictions out
page        Streamlit page, a client of the API
"""
