"""The checks of `slicewise doctor`.

check      the result of a check
software   Python, packages, encoder weights, experiment tracking, text encoding
machine    cores, memory, accelerator
storage    workspace, disk space, lock
datasets   inputs named by the configuration, data sets on disk, Kaggle credentials
services   ports and supervisor of the demo
"""
