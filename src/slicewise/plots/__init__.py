"""Figures as PNG files, and pictures of slices. Plots take rows of tables and arrays, not models.

style               look of all figures; writes them
slices              slices of a volume with masks, a prediction as one picture (without Matplotlib)
overlay             masks, outlines and saliency on slices (without Matplotlib)
curves              losses and metrics per epoch
scores              Dice per patient, classes of pixels, failures
classification      confusion matrices of slices, ROC curves, calibration
sample_predictions  best, median and worst predictions; failures
"""
