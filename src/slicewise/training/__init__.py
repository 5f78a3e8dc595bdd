"""Training of one stage.

- `stage`: `train_stage` and its result; advice when memory runs out.
- `trainer`: the loop over epochs and batches, and resuming.
- `learner`: model, optimiser, gradient clipping and averaged weights on one device.
- `losses`: the weighted sum of the losses of the tasks.
- `optim`: optimisers, learning rates, gradient accumulation and clipping.
- `ema`: the moving average of the weights.
- `precise_bn`: batch-norm statistics of the final weights.
- `validation`: the metrics of the validation patients.
- `model_selection`: which epoch is kept, and when a stage stops early.
- `state`: last.pth, from which an interrupted stage resumes.
- `artifacts`: best_model.pth, history.csv and figures.
- `samples`: predictions for a few validation slices as a picture.
- `fabric`: device, precision and deterministic kernels.
"""
