"""From prepared slices to predictions.

- `predictor`: probabilities of slices and volumes from one checkpoint.
- `ensemble`: the mean of several models' probabilities.
- `tta`: test-time augmentation: flips and rotations of a slice.
- `calibration`: scaling of logits, calibration errors, reliability curve.
- `postprocess`: thresholds, connected components, the tumour probability of a volume.
- `operating_points`: thresholds that the evaluation selected, read from calibration.json.
- `prediction`: verdict, mask and millilitres of one volume.
"""
