"""Linear operators and their algebra; they know nothing of models."""

from quadric.operators.algebra import Product, Scaled, Sum, Transposed
from quadric.operators.dense import Dense
from quadric.operators.identity import Identity, identity_like
from quadric.operators.operator import LinearOperator

__all__ = ["Dense", "Identity", "LinearOperator", "Product", "Scaled", "Sum", "Transposed", "identity_like"]
