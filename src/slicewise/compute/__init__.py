"""How PyTorch uses the hardware. How threads wait changes no result; precision and device do.

device     `runtime.device`: CUDA, MPS or CPU; convolutions without TF32
openmp     whether OpenMP threads spin or sleep while they wait
precision  `training.precision`: fp32, bf16 or fp16; `auto` measures
probe      the measurement: a small training step, and its rate under several settings
threads    `runtime.num_threads`: the number of threads, chosen by the probe
"""
