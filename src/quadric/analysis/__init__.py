"""Critical points, sharpness and slices of a loss."""

from quadric.analysis.classify import CriticalPoint, classify
from quadric.analysis.sharpness import Sharpness, sharpness
from quadric.analysis.slices import LossSlice, filter_normalized, loss_slice

__all__ = [
    "CriticalPoint",
    "LossSlice",
    "Sharpness",
    "classify",
    "filter_normalized",
    "loss_slice",
    "sharpness",
]
