"""A trained model as files for other programs and machines: `slicewise export`.

- `formats`: the formats by name; other packages add theirs as `slicewise.formats`.
- `graph`: the module that is exported: the model with what can be a graph of its post-processing.
- `onnx`, `openvino`, `torchscript`: its writers.
- `folder_formats`: formats that are folders: `huggingface`, `monai_bundle`, with their `model_card`.
- `publish`: such a folder on the Hugging Face Hub.
- `int8`: graphs in 8-bit integers.
- `folder`: the folder of a bundle, written as a whole or not at all.
- `parity`: the comparison of a checkpoint with what was exported from it.
- `examples`: the generated inputs of that comparison.
- `readme`: the text that lies in the folder.
"""
