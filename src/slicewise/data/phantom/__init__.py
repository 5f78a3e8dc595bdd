"""Generated brain-tumour MRI with real anatomy (MNI152), in the layouts of BraTS and of Kaggle pictures.

patients   everything drawn at random about one, and its four contrasts and label map as NIfTI
pictures   one yes/no picture as JPEG or PNG
fields     smooth random fields, and the points at which they are evaluated
anatomy    the healthy brain: warped atlas, tissue fractions, mass effect
tumour     tumours: position and shape of their foci, compartments
contrast   signal of each tissue and of what resembles a tumour, skull and scalp, and the scanner
"""
