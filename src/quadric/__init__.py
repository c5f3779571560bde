"""quadric: the local quadratic model of a loss, to look at, to solve with, to step with and to judge."""
