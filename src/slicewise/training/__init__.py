"""Training of one stage.

- `stage`: `train_stage` and its result; deterministic kernels; advice when memory runs out.
- `trainer`: the loop over epochs and batches, and resuming.
- `learner`: model, loss, optimiser and averaged weights on one device, in its precision.
- `processes`: several processes that share each batch.
- `optim`: optimisers, learning rates, gradient accumulation and clipping; the moving average of the weights,
  and batch-norm statistics of the final weights.
- `model_selection`: the metrics of the validation patients, which epoch is kept, when a stage stops early.
- `state`: last.pth, from which an interrupted stage resumes.
- `artifacts`: best_model.pth, history.csv, figures, and predictions for a few validation slices.
"""
