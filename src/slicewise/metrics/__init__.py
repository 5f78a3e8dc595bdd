"""Scores as formulas on arrays, without tables or patients.

confusion         pixel overlap (Dice, IoU, ...), slice classification (sensitivity, ROC-AUC, ...) from counts
surface_distance  border distances of two masks: HD95, NSD, boundary F1
"""
