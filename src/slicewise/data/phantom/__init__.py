"""Generated brain-tumour MRI with real anatomy (MNI152), in the layouts of BraTS and of Kaggle pictures.

generation  writes patients and pictures that are missing
patient     one patient: four contrasts and a label map as NIfTI
pictures    one yes/no picture as JPEG or PNG
subject     everything drawn at random about one person
atlas       the MNI152 maps
fields      smooth random fields, and the points at which they are evaluated
anatomy     the healthy brain: warped atlas, tissue fractions, mass effect
tumour      tumours: position and shape of their foci, compartments
mimics      what resembles a tumour: white-matter disease, vessels, plexus, dura
head        skull and scalp of pictures
contrast    signal of each tissue, and the scanner
"""
