"""Line searches on a plain function of the step length, for `minimize` and for optimisers of networks alike."""

from quadric.optim.line_search.armijo import armijo
from quadric.optim.line_search.search import LineSearch
from quadric.optim.line_search.strong_wolfe import strong_wolfe

__all__ = ["LineSearch", "armijo", "strong_wolfe"]
