"""A user's script: predict patients, pictures and an array, and write masks and a table."""

import csv
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from slicewise.inference.pipeline import Pipeline


def main(checkpoint: str, folder: str, out: str) -> None:
    pipeline = Pipeline.load(checkpoint, device="cpu")
    cases, problems = pipeline.find([Path(folder)])
    print(*problems, sep="\n")
    rows = []
    for case in cases:
        prediction = pipeline.predict(case)
        rows.append(prediction.to_row(mask=prediction.save_mask(Path(out))))
    with (Path(out) / "table.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, asdict(rows[0]))
        table.writeheader()
        table.writerows(map(asdict, rows))

    volume = np.random.default_rng(0).integers(100, 200, (3, 64, 64))  # [slice, row, col]
    found = pipeline.predict(volume, channels="flair", spacing=(5.0, 1.0, 1.0))
    print(found.verdict, found.tumour_probability, found.volume_ml, found.point.origin)


if __name__ == "__main__":
    main(*sys.argv[1:])
