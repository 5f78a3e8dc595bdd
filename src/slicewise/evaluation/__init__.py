"""Evaluation: from predictions of cases to tables, scores with intervals, and reports.

Scores
    per_case             predictions and labels of one case (`CaseOutput`), scores of its slices
    evaluate             slice and patient tables of all cases (`EvaluationResult`)
    summary              all scores with intervals per source, the content of metrics.json
    score_tables         the scores of each source as tables of a report
    report               report.txt, tables and figures
    statistics/          bootstrap intervals, paired differences
Selection on validation patients
    threshold_selection  calibration, thresholds and post-processing per source
    class_threshold      calibration and class threshold
    mask_threshold       grid search of mask threshold and post-processing
    selection_gain       the gain of a selection on held-out groups
    held_out             test cases, opened once after selection; scores before and after it
Analyses
    comparison/          of runs, recipes and training stages
    cross_validation     the folds pooled, and calibrated across folds
    failures             failures and their traits; failure_report writes them
    modality_ablation    scores with every subset of the modalities
"""
