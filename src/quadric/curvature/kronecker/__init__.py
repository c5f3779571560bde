"""The parts of Kronecker-factored curvature: layers, what they see on a batch, and their statistics."""
