"""From files to predictions.

- `pipeline`: `Pipeline.load(checkpoint).predict(case)`: everything below as one; ensembles.
- `prepared_case`: what the models are given for a file, array or stored case.
- `ensemble`: what a prediction is the mean of: flips and rotations (TTA), and models.
- `backends`: what runs a model's forward pass.
- `calibration`: scaling of logits, calibration errors, reliability curve.
- `postprocess`: thresholds, connected components, the tumour probability of a volume.
- `operating_points`: thresholds that the evaluation selected, read from calibration.json.
- `prediction`: verdict, mask and millilitres of one case; its table row and JSON.
- `map_files`: files of masks and probability maps.
"""
