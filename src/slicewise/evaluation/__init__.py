"""Evaluation: from predictions of cases to tables, scores with intervals, and reports.

Scores
    case_output          predictions of a case beside the reference
    evaluate             slice and patient tables of all cases
    summary              all scores with intervals per source, the content of metrics.json
    report               metrics.json, report.txt, tables and figures; the scores as tables of a report
    class_tables         tables of classes: the scores of each, confusion matrices
    statistics           bootstrap intervals, paired differences, the gain of a selection on held-out groups
Selection on validation patients
    threshold_selection  calibration, thresholds and post-processing per source
    slice_probabilities  those of a source, and what a selection on some of them gains on others
    mask_threshold       grid search of mask threshold and post-processing
    held_out             test cases, opened once after selection; scores before and after it
Analyses
    comparison           of stages, recipes, runs, folds and subsets of modalities
    runs                 finished evaluations, read back and compared
    cross_validation     the folds pooled, and calibrated across folds
    failures             failures and their traits
    given_reference      a reference mask that is given with one case, and the agreement with it
    modality_ablation    scores with every subset of the modalities
"""
