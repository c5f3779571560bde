"""A problem of the user's own: model, loss and data named on a command line, weights from a checkpoint."""
