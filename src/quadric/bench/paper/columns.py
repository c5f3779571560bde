"""The columns of table 1: problems with the limits that the authors' program has."""

from __future__ import annotations

from dataclasses import dataclass

from quadric import problems
from quadric.problems import Problem


@dataclass(frozen=True)
class Column:
    """A problem of the table; `published` names the published column that it is to be held against, if any."""

    problem: str
    title: str
    published: str = ""

    @property
    def task(self) -> Problem:
        """The problem itself."""
        return problems.get(self.problem)


ROSENBROCK, U1, U3, RAHIMI = "Rosenbrock", "U[0,1]", "U[0,3]", "Rahimi–Recht"

COLUMNS = (
    Column("rosenbrock", ROSENBROCK, ROSENBROCK),
    Column("rosenbrock-u1-squared", f"{U1} ε²", U1),
    Column("rosenbrock-u3-squared", f"{U3} ε²", U3),
    Column("rosenbrock-u1", f"{U1} ε"),
    Column("rosenbrock-u3", f"{U3} ε"),
    Column("rahimi-recht", RAHIMI, RAHIMI),
)
