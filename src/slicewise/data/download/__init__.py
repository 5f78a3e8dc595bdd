"""Data sets from Kaggle.

kaggle          download, retries and unpacking
kaggle_client   credentials and the request
transfer        one file over HTTP, continued and verified
archive         safe unpacking of a ZIP archive
"""
