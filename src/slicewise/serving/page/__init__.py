"""The Streamlit page of the demo, a client of the API.

server          Streamlit's server with the `routes` of the viewer's files, of findings and of the summary
streamlit_app   the script that Streamlit runs: notices and the four tabs
frame           title, notices, headline of a finding, the model
form            choice of files or of an example; `files` says what they are, `waiting` what is waited for
finding         the finding of the page's address
classification  tab: verdict, probability, Grad-CAM
segmentation    tab: volumes, viewer, downloads
batch           tab: many cases
patient         tab: curve, volumes, lesions, key slices, comparison with a truth
summary         one page to print
viewer          NiiVue for a volume, a canvas for a picture
charts, wording, client
"""
