"""Critical points, sharpness and slices of a loss, and a monitor of its training."""

from quadric.analysis.classify import CriticalPoint, classify
from quadric.analysis.gradient_noise import GradientNoise, gradient_noise
from quadric.analysis.measurement import Measurement
from quadric.analysis.monitor import Monitor
from quadric.analysis.sharpness import Sharpness, sharpness
from quadric.analysis.slices import LossSlice, filter_normalized, loss_slice

__all__ = [
    "CriticalPoint",
    "GradientNoise",
    "LossSlice",
    "Measurement",
    "Monitor",
    "Sharpness",
    "classify",
    "filter_normalized",
    "gradient_noise",
    "loss_slice",
    "sharpness",
]
