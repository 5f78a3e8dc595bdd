"""Statistics over patients.

bootstrap          intervals of any statistic: `estimate`, `estimate_mean`, `estimate_over_rows`
paired_difference  two models on the same patients: difference of means or AUCs, Wilcoxon's test
"""
