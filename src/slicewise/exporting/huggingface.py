"""A folder for the Hugging Face Hub: model card, configuration, weights, and an example that predicts."""

from pathlib import Path
from typing import Final

from slicewise.core.files import write_text
from slicewise.exporting.folder_formats import FolderFormat
from slicewise.exporting.model_card import write_card
from slicewise.inference.operating_points import CALIBRATION_NAME, find_calibration
from slicewise.models.checkpoint import Checkpoint, save_checkpoint
from slicewise.models.safetensors_file import CONFIG_NAME, WEIGHTS_NAME

EXAMPLE_NAME: Final = "example.py"
_EXAMPLE: Final = '''\
"""Predict one case: python example.py PATH [FOLDER FOR THE MASK]

PATH is a picture, a NIfTI volume, a DICOM series or a patient's folder.
"""

import sys
from pathlib import Path

from slicewise.inference.pipeline import Pipeline


def main() -> None:
    pipeline = Pipeline.load(Path(__file__).parent)
    prediction = pipeline.predict(sys.argv[1])
    out = Path(sys.argv[2] if len(sys.argv) > 2 else ".")
    print("case:", prediction.case)
    print("verdict:", prediction.verdict)
    print("tumour probability:", prediction.tumour_probability)
    print("millilitres:", prediction.volume_ml)
    print("mask:", prediction.save_mask(out))



if __name__ == "__main__":
    main()
'''
_USAGE: Final = f"""\
## Use

```python
from huggingface_hub import snapshot_download
from slicewise.inference.pipeline import Pipeline

pipeline = Pipeline.load(snapshot_download("USER/NAME"))
prediction = pipeline.predict("patient/")  # or a picture, a volume, a DICOM series
print(prediction.verdict, prediction.tumour_probability, prediction.volume_ml)
```

Or from the command line: `slicewise predict patient/ --checkpoint FOLDER`, `python {EXAMPLE_NAME} patient/`.

| file | content |
| --- | --- |
| `{WEIGHTS_NAME}` | the weights, fp32; no code is run when they are read |
| `{CONFIG_NAME}` | architecture, preprocessing, tasks, and how the training cases look |
| `{CALIBRATION_NAME}` | thresholds and calibration selected on validation patients, where there are any |
| `{EXAMPLE_NAME}` | loads the model and predicts a case |
"""


def write_huggingface(path: Path, checkpoint: Checkpoint, folder: Path) -> None:
    """Write the folder of the checkpoint at `path`; what `Pipeline.load(folder)` predicts is the same."""
    write_model(path, checkpoint, folder)
    write_text(folder / EXAMPLE_NAME, _EXAMPLE)
    write_text(folder / "README.md", write_card(path, checkpoint, _USAGE))


def write_model(path: Path, checkpoint: Checkpoint, folder: Path) -> None:
    """Write what `Pipeline.load` reads: weights, configuration, and the thresholds that were selected."""
    save_checkpoint(folder / WEIGHTS_NAME, checkpoint)
    if calibration := find_calibration(path):
        write_text(folder / CALIBRATION_NAME, calibration.read_text(encoding="utf-8"))


HUGGINGFACE: Final = FolderFormat(write_huggingface, CONFIG_NAME)
