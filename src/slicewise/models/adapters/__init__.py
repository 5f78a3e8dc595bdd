"""Architectures of other libraries, each as an encoder, a decoder and a mask head.

- `smp`: those of segmentation_models_pytorch, with its encoders and timm's; installed ImageNet weights.
- `monai`: BasicUNet, DynUNet and SegResNet in two dimensions.
"""
