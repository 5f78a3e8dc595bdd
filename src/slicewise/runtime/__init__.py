"""What an exported model needs to predict, without torch.

- `bundle`: the folder that `slicewise export` writes, read and checked.
- `graphs`: what runs its graphs: onnxruntime or OpenVINO.
- `rotation`: the rotations of test-time augmentation.

`slicewise.inference.pipeline.Pipeline.load(folder)` predicts with it: the same code as with a checkpoint.
"""
