"""Loss functions as functions of the network's outputs: normaliser and Hessian, in closed form where known."""

from quadric.objective.losses.loss import Loss
from quadric.objective.losses.recognise import recognise

__all__ = ["Loss", "recognise"]
