"""How PyTorch uses the hardware. How threads wait changes no result; precision and device do.

device   `runtime.device`: CUDA, MPS or CPU; `training.precision`: fp32, bf16 or fp16; `auto` measures
threads  `runtime.num_threads`: the number of threads, and whether they spin or sleep while they wait
"""
