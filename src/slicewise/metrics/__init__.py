"""Metrics, without tables or patients.

table             every metric with its name, label, unit, level and direction; `METRICS`, the registry
confusion         formulas from counts: pixel overlap (Dice, IoU, ...), classification (ROC-AUC, ...)
surface_distance  border distances of two masks: HD95, NSD, boundary F1
"""
