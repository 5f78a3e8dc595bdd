"""The parts of `slicewise predict`.

models   the model of a workspace, of a file, or the ensemble of all folds
cases    predictions case by case
masks    predicted masks as files
table    predictions.csv and predictions.json
"""
