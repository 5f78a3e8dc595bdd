"""The HTTP API of the demo.

app         routes, `create_app`, and the program that loads a model and serves it
docs        the page at /docs
schemas     responses as pydantic models
uploads     forms: unknown and repeated fields are refused; files: type, name, private folder; to a `Volume`
service     `Volume` to a response: prediction, Grad-CAM, drawings; recent results
middleware  size limit of a request, security headers
errors      exceptions and their responses
"""
