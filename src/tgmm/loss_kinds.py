"""Which losses there are; needs no tensors, so that settings are read quickly."""

LOSSES = ("matched", "sorted", "likelihood", "both")
