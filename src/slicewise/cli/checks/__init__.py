"""What `slicewise doctor` looks at: the software, the machine, and the place where the outputs go."""
