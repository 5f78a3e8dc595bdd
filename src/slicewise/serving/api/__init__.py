"""The HTTP API of the demo.

app           `create_app`, and the program that loads a model and serves it
routes/       the routes, a module per tag
docs          the page at /docs
openapi       the OpenAPI document with examples and curl lines
examples      those examples
schemas       responses as pydantic models
forms         forms: unknown and repeated fields are refused
uploads       uploaded files: type, name, private folder
input_files   from uploads to a `Volume`
archives      a ZIP or a stack of pictures to a `Volume`
negotiation   which representation a client accepts
service       from a request to a finding, by way of the queue
model_queue   the bounded queue in front of the model; batches of pictures
findings      a prediction with its images, as one file
result_store  findings on disk and in memory, bounded
responses     from a finding to the fields of a response
layers        pictures and NIfTI files of a finding
monitoring    metrics for Prometheus
access        API key
middleware    known hosts, size limit of a request, headers
problems      errors as problem documents
"""
