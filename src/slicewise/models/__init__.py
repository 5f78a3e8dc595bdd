"""The multitask model and its files.

- `multitask`: slot tokens, shared encoder and decoder, two heads, frozen parts; the size in memory.
- `base`: what an architecture brings: encoder, decoder, mask head, stride.
- `adapters`: architectures of segmentation_models_pytorch and MONAI.
- `catalogue`: all architectures and some encoders, with their sizes and where their weights are.
- `pruning`, `widths`: fewer channels in each layer, and the sizes from which such a model is built.
- `optimize`: removal of encoder stages that a model never uses; depthwise convolutions in fp32 on a CPU.
- `checkpoint`: best_model.pth: fields, reading, writing, comparison with a model.
- `safe_loading`: reading and writing of weight files without running code from them.
- `program`: the forward pass as a list of calls, so that prediction imports no model library.
"""
