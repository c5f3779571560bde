"""Linear operators and their algebra; they know nothing of models."""

from quadric.operators.algebra import Product, Scaled, Sum, Transposed
from quadric.operators.block_diagonal import BlockDiagonal
from quadric.operators.claimed import Claimed, claim_symmetric
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.dense import Dense
from quadric.operators.diagonal import Diagonal
from quadric.operators.eigen_kronecker import EigenKronecker
from quadric.operators.estimate import Estimate
from quadric.operators.factored_damping import factored_damping
from quadric.operators.identity import Identity, identity_like
from quadric.operators.kronecker import Kronecker
from quadric.operators.low_rank import LowRank
from quadric.operators.operator import LinearOperator
from quadric.operators.partition import block_diagonal
from quadric.operators.secant import BFGS, DFP, SR1, SecantUpdate
from quadric.operators.sub_matrix import SubMatrix, sub_matrix
from quadric.operators.zero import Zero

__all__ = [
    "BFGS",
    "DFP",
    "SR1",
    "BlockDiagonal",
    "Claimed",
    "Dense",
    "Diagonal",
    "EigenKronecker",
    "Estimate",
    "Identity",
    "Kronecker",
    "LinearOperator",
    "LowRank",
    "NotPositiveDefinite",
    "Product",
    "Scaled",
    "SecantUpdate",
    "SubMatrix",
    "Sum",
    "Transposed",
    "Zero",
    "block_diagonal",
    "claim_symmetric",
    "factored_damping",
    "identity_like",
    "sub_matrix",
]
