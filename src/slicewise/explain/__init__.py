"""Explanations of the classification by saliency maps.

cam           Grad-CAM and its variants
faithfulness  deletion and insertion curves, the random baseline, the model randomization test
explanation   the results for each slice, localization of the tumour, summary by method
report        gradcam.csv, explanations.csv, curves.csv, summaries and figures
"""
