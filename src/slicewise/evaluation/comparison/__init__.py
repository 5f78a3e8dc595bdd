"""Comparison of models on the same test patients.

runs         two finished evaluations, paired by patient
recipes      several recipes and seeds against the first
stages       the training stages of one run
stage_gains  what a later stage gained, for the closing screen; imports nothing heavy
"""
