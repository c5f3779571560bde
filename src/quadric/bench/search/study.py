"""The study: optuna chooses the settings, and keeps them in a file or a database that several machines can share."""

from __future__ import annotations

import itertools
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from quadric.bench.search.records import Trial, check_same
from quadric.bench.search.space import Dimension, Range, grid, spread_out
from quadric.bench.search.trials import Outcome, Task, evaluate

if TYPE_CHECKING:
    import optuna

Method = Literal["tpe", "random", "grid", "halton"]
SIGNATURE, OUTCOME = "quadric search", "outcome"
PASSED_OVER = 8
"""So many settings of a sequence are looked at for one that is new."""
FEW = 4
"""With fewer finished trials than this no importances are computed."""


def needed() -> None:
    """Raise RuntimeError, with the remedy, where optuna is missing."""
    if find_spec("optuna") is None:
        raise RuntimeError("quadric tune needs optuna; install it with: pip install 'quadric[tune]'")


class Study:
    """The settings that have been tried and will be.

    `place` is a file (optuna's journal) or the URL of a database. Random numbers depend on `seed` and on how many
    trials there were when the study was opened, so that one that goes on does not repeat itself.

    Raises ValueError where the study of that name there belongs to another search.
    """

    def __init__(self, place: str, name: str, signature: dict[str, Any], space: list[Dimension], seed: int = 0) -> None:
        needed()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.distributions = {each.name: distribution(each) for each in space}
        self.study = optuna.create_study(
            storage=storage(place), study_name=name, pruner=optuna.pruners.MedianPruner(), load_if_exists=True
        )
        known = self.study.user_attrs.get(SIGNATURE)
        if known is None and self.study.trials:
            raise ValueError(f"The study {name!r} in {public(place)} was not made by quadric tune; name another.")
        check_same(f"The study {name!r} in {public(place)}", known or signature, signature)
        self.study.set_user_attr(SIGNATURE, signature)
        self.seed = seed + len(self.study.trials)
        self.even = False

    def choose(self, method: Method, points: int) -> None:
        """How settings are chosen from now on; what of a grid was not tried yet is queued.

        Those of a grid and of Halton's sequence are all trained to the end: they are there to be compared.
        """
        import optuna

        sampler = optuna.samplers.TPESampler if method == "tpe" else optuna.samplers.RandomSampler
        self.study.sampler = sampler(seed=self.seed)
        self.even = method == "halton"
        if method in ("grid", "halton"):
            self.study.pruner = optuna.pruners.NopPruner()
        if method == "grid":
            tried = [
                trial.system_attrs.get("fixed_params", trial.params)
                for trial in self.study.trials
                if trial.state != optuna.trial.TrialState.FAIL
            ]
            for hyper in grid(self.space, points):
                if hyper not in tried:
                    self.study.enqueue_trial(hyper)

    def begin_with(self, hyper: dict[str, Any]) -> None:
        """Queue a setting that is tried before all others, unless the study has begun."""
        if not self.trials and not self.queued:
            self.study.enqueue_trial(hyper)

    def release(self) -> None:
        """Give up trials that no process is at any more, after a kill. Only for a study that nobody shares."""
        import optuna

        for trial in self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    @property
    def queued(self) -> int:
        """How many settings wait in the queue."""
        import optuna

        return len(self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.WAITING]))

    @property
    def trials(self) -> list[Trial]:
        """Every trial that ended, by whomever."""
        return [
            Trial(trial.number, self.settings(trial.params), **trial.user_attrs[OUTCOME])
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state.is_finished() and OUTCOME in trial.user_attrs
        ]

    def settings(self, params: dict[str, Any]) -> dict[str, Any]:
        """The settings that optuna's parameters stand for: numbers of four digits, which people can copy."""
        return {each.name: each.rounded(params[each.name]) for each in self.space}

    def attempt(self, task: Task) -> Outcome:
        """Try the next setting. After Ctrl-C, or where the optimiser refuses it, the study knows that it failed."""
        import optuna

        if self.even and not self.queued:
            self.study.enqueue_trial(self.even_point())
        trial = self.study.ask(self.distributions)

        def hopeless(step: int, value: float) -> bool:
            trial.report(value, step)
            return trial.should_prune()

        try:
            outcome = evaluate(task, self.settings(trial.params), hopeless)
        except BaseException:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        trial.set_user_attr(OUTCOME, asdict(outcome))
        if outcome.status == "finished":
            self.study.tell(trial, outcome.value)
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return outcome

    def even_point(self) -> dict[str, Any]:
        """The next setting of Halton's sequence; one that was tried is passed over, unless so are all the next."""
        tried, first = [trial.hyper for trial in self.trials], len(self.trials)
        points = [spread_out(self.space, first + i) for i in range(PASSED_OVER)]
        return next((point for point in points if self.settings(point) not in tried), points[0])

    def importance(self) -> dict[str, float]:
        """Each hyper-parameter's share of the variance of finished trials: functional ANOVA on a random forest.

        Empty where the trials are too few or all alike. Reference: Hutter, Hoos, Leyton-Brown (2014), "An efficient
        approach for assessing hyperparameter importance".
        """
        import optuna

        finished = self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        if len(finished) < FEW or len({trial.value for trial in finished}) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            try:
                return optuna.importance.get_param_importances(self.study, evaluator=evaluator)
            except RuntimeError:  # the forest sees no variance
                return {}


def run(study: Study, task: Task, *, trials: int | None, budget: float | None, grid: bool) -> Iterator[Outcome]:
    """Try settings until the study has `trials` of them, `budget` seconds are spent, or the queue of a grid is empty.

    A setting is not begun where the mean of those before it would not fit into the budget any more.
    """
    start, took = time.monotonic(), 0.0
    for count in itertools.count():
        spent = time.monotonic() - start
        if grid and not study.queued:
            return
        if trials is not None and len(study.trials) >= trials:
            return
        if budget is not None and count and spent + took / count > budget:
            return
        outcome = study.attempt(task)
        took += outcome.seconds
        yield outcome


def distribution(each: Dimension) -> optuna.distributions.BaseDistribution:
    """One hyper-parameter's part of the space as optuna has it."""
    import optuna

    if not isinstance(each, Range):
        return optuna.distributions.CategoricalDistribution(each.values)
    if each.whole:
        return optuna.distributions.IntDistribution(int(each.low), int(each.high))
    return optuna.distributions.FloatDistribution(each.low, each.high, log=each.log)


def storage(place: str) -> Any:
    """The database at a URL, or else the journal in a file."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        return RDBStorage(place) if "://" in place else JournalStorage(JournalFileBackend(place))
    except Exception as error:  # a driver that is not installed, a host that does not answer, …
        raise ValueError(f"The study in {public(place)} cannot be opened: {str(error).splitlines()[0]}") from error


def public(place: str) -> str:
    """A place without the user and password that a URL may have."""
    return re.sub(r"//[^/]*@", "//", place)
