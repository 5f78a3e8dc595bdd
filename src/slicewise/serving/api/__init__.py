"""The HTTP API of the demo.

server              entry point: options, model, uvicorn
app                 routes and `create_app`
schemas             responses as pydantic models
uploads             received files: type, name, private folder
reader              received files to a `Volume`
cases               bundled phantom cases
prediction_service  `Volume` to a response: inference, Grad-CAM, drawings
results             recent results, kept for requests that refer to them
rendering           a slice as a picture for the screen
routing             forms: unknown and repeated fields are refused
middleware          size limit of a request, security headers
errors              exceptions and their responses
docs                the page at /docs
"""
