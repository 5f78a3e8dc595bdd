"""Figures as PNG files, and pictures of slices. Plots take rows of tables and arrays, not models.

style               look of all figures; writes them
overlay             masks, outlines and saliency on slices (without Matplotlib)
curves              losses and metrics per epoch
scores              confusion matrices, Dice per patient, ROC curves, calibration, IoU of failures
sample_predictions  best, median and worst predictions; failures
comparison          scores of stages, recipes, runs, folds or subsets of modalities side by side
"""
