"""Iterative algorithms, and the questions they answer, for anything with `op @ x`."""

from quadric.linalg.cg import cg
from quadric.linalg.diagonal import diagonal
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.eigsh import eigsh
from quadric.linalg.inverse import inverse
from quadric.linalg.lanczos import Tridiagonal, lanczos
from quadric.linalg.lobpcg import lobpcg
from quadric.linalg.logdet import logdet
from quadric.linalg.low_rank import low_rank
from quadric.linalg.lsmr import lsmr
from quadric.linalg.minres import minres
from quadric.linalg.nystrom import nystrom_preconditioner
from quadric.linalg.range_finder import range_finder
from quadric.linalg.solution import Solution
from quadric.linalg.spectral_density import SpectralDensity, spectral_density
from quadric.linalg.square_root import sample_normal, square_root
from quadric.linalg.trace import frobenius_norm, trace
from quadric.linalg.truncated_cg import Truncated, truncated_cg

__all__ = [
    "Eigenpairs",
    "Solution",
    "SpectralDensity",
    "Tridiagonal",
    "Truncated",
    "cg",
    "diagonal",
    "eigsh",
    "frobenius_norm",
    "inverse",
    "lanczos",
    "lobpcg",
    "logdet",
    "low_rank",
    "lsmr",
    "minres",
    "nystrom_preconditioner",
    "range_finder",
    "sample_normal",
    "spectral_density",
    "square_root",
    "trace",
    "truncated_cg",
]
