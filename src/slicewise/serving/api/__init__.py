"""The HTTP API of the demo.

server      entry point: options, model, uvicorn
app         routes and `create_app`
schemas     responses as pydantic models
uploads     received files: type, name, private folder; to a `Volume`
service     `Volume` to a response: prediction, Grad-CAM, drawings; recent results
rendering   a slice as a picture for the screen
routing     forms: unknown and repeated fields are refused
middleware  size limit of a request, security headers
errors      exceptions and their responses
docs        the page at /docs
"""
