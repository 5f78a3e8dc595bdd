"""The Streamlit page of the demo.

streamlit_app  the script that Streamlit runs: header, model, inputs, prediction
inputs         choice of files or of a bundled case
outputs        the prediction: metrics, pictures, probability curve
client         HTTP client of the API
"""
