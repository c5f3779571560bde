"""An open function of operators: each operator's file registers its own closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Form = TypeVar("Form", bound=Callable[..., Any])


class Query(Generic[P, R]):
    """A function that dispatches on the class of an operator, and answers None where no closed form is known.

    Subclasses inherit the form of their nearest registered base. A form may itself answer None: "not in this case".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._forms: dict[type, Callable[Concatenate[Any, P], R | None]] = {}

    def register(self, kind: type) -> Callable[[Form], Form]:
        """Decorator that makes a function `form(operator, …)` the closed form for operators of class `kind`."""

        def add(form: Form) -> Form:
            self._forms[kind] = form
            return form

        return add

    def __call__(self, operator: Any, *args: P.args, **kwargs: P.kwargs) -> R | None:
        for kind in type(operator).__mro__:
            if kind in self._forms:
                return self._forms[kind](operator, *args, **kwargs)
        return None
