"""Explanations of the classification by saliency maps.

cam            Grad-CAM and its variants
localization   share of the saliency in the tumour, pointing game; gradcam.csv and its figures
faithfulness   deletion and insertion curves, the random baseline
randomization  the model randomization test
explanation    the results for one slice, the rows of gradcam.csv and explanations.csv
report         comparison of the methods; pages draws it
"""
