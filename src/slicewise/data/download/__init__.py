"""Data sets from Kaggle.

kaggle    credentials, request and retries
archive   one file over HTTP, continued and verified, and its safe unpacking
"""
