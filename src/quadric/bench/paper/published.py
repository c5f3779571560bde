"""Table 1 as published, steps to solve as mean and standard deviation: as recalled, so approximate.

Reference: Henriques, Ehrhardt, Albanie, Vedaldi (2019), "Small steps and giant leaps: minimal Newton solvers for deep
learning", ICCV.
"""

from quadric.bench.paper.columns import RAHIMI, ROSENBROCK, U1, U3

TABLE1: dict[str, dict[str, tuple[float, float]]] = {
    "SGD + momentum": {ROSENBROCK: (370, 40), U1: (846, 217), U3: (4069, 565), RAHIMI: (95, 2)},
    "Adam": {ROSENBROCK: (799, 160), U1: (1290, 476), U3: (2750, 257), RAHIMI: (95, 5)},
    "Levenberg–Marquardt": {ROSENBROCK: (16, 4), U1: (14, 3), U3: (17, 4), RAHIMI: (9, 4)},
    "BFGS": {ROSENBROCK: (19, 4), U1: (44, 21), U3: (63, 29), RAHIMI: (43, 21)},
    "CurveBall": {ROSENBROCK: (13, 0.5), U1: (12, 1), U3: (13, 1), RAHIMI: (35, 11)},
}
