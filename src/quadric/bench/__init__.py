"""The protocol of comparisons: the training loop and its clock, learning rates, records."""
