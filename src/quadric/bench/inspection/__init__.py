"""Looking at a model from a checkpoint to its records: what is inspected, the parts of it, and what they cost."""
