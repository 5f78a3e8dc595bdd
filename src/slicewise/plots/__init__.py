"""Figures as PNG files, and pictures of slices. Plots take rows of tables and arrays, not models.

style                look of all figures; writes them
overlay              masks, outlines and saliency on slices (NumPy and Pillow only)
curves               losses and metrics per epoch
scores               confusion matrices, Dice per patient, ROC curves
reliability_diagram  calibration
sample_predictions   best, median and worst predictions
modality_ablation    scores by subset of modalities
recipes              scores by recipe
"""
