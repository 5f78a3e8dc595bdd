"""The parts of `slicewise predict`: who answers, what is written of each answer, and the tables of all."""
