"""Tasks: mixtures and their points, drawn from counters; for training, and in sets on disk for comparisons."""
