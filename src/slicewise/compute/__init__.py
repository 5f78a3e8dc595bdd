"""How PyTorch uses the processor: the number of threads, how they wait, and the precision."""
