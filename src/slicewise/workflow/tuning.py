"""A study of `slicewise tune`: its trials in a database, what is tried next, and which trials end early.

A trial is the run of a derived configuration up to its last stage, and its value is the validation score of
that stage; no part of it opens a test case.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from slicewise.config.search_space import Choice, Parameter
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.hashing import digest
from slicewise.engine.observers import Observer, StopRun

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

PrunerName = Literal["median", "hyperband", "none"]
TrialState = Literal["complete", "pruned", "failed"]
STUDY_NAME: Final = "study.db"
_RANDOM_TRIALS: Final = 6
"""Before the sampler models which values are good"""
_UNPRUNED_TRIALS: Final = 4
_FEWEST_FOR_IMPORTANCE: Final = 5
_DEFAULT: Final = "default"
_RESULT: Final = "result"


@dataclass(frozen=True)
class TrialResult:
    """What a trial gave.

    Attributes:
        score: validation score of the kept epoch of the last stage, or where it was pruned of the last epoch.
        epochs: of the last stage.
        seconds: spent on training batches of the last stage.
        reason: why it was pruned or failed.
        fingerprint: of the last stage.
        history: (epoch, validation score) of the last stage.
    """

    state: TrialState
    score: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""
    fingerprint: str = ""
    history: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class TrialRow:
    """A finished trial of a study: its number from 1 on, 0 for the default recipe, its values and result."""

    number: int
    values: Mapping[str, str]
    result: TrialResult


@dataclass(frozen=True)
class StudySettings:
    """Where a study is stored, and what decides its course.

    Attributes:
        name: of all that decides a trial's value; another name starts a new study.
        epochs: most epochs of the last stage.
    """

    folder: Path
    name: str
    parameters: tuple[Parameter, ...]
    seed: int
    pruner: PrunerName
    epochs: int

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / STUDY_NAME}"


def require_optuna() -> None:
    """Raise UsageError where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise UsageError(
            "tune needs the package optuna: install slicewise[tune] (in a checkout: uv pip install -r "
            "requirements/tune.lock)"
        )


@contextmanager
def explained_storage(folder: Path) -> Iterator[None]:
    """Name the file where the database of a study in a folder fails.

    Raises:
        WorkspaceError: it is damaged, or cannot be written.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error  # Optuna and SQLAlchemy raise errors of their own
        while cause is not None and not isinstance(cause, sqlite3.Error):
            cause = cause.__cause__
        if cause is None:
            raise
        raise WorkspaceError(
            f"{folder / STUDY_NAME}: {cause}; make room or change its permissions, or move it away if it is "
            "damaged: the same command then reuses the trainings on the shelf"
        ) from error


class TuningStudy:
    """The trials of a search space. Several processes may open the same study."""

    def __init__(self, settings: StudySettings) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        settings.folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.RDBStorage(settings.url, engine_kwargs={"connect_args": {"timeout": 60}})
        self.settings = settings
        self._study: Study = optuna.create_study(
            storage=storage,
            study_name=settings.name,
            direction="maximize",
            load_if_exists=True,
            pruner=_make_pruner(settings),
        )
        self._spaces = {each.name: _distribution(each) for each in settings.parameters}

    def add_default(self, result: TrialResult, values: Mapping[str, Any]) -> None:
        """Add the default recipe, whose values lie in the search space, so that the sampler knows it too."""
        import optuna

        if not any(_DEFAULT in trial.user_attrs for trial in self._study.get_trials(deepcopy=False)):
            trial = optuna.trial.create_trial(
                params=dict(values),
                distributions=self._spaces,
                value=result.score,
                intermediate_values=dict(result.history),
                user_attrs={_DEFAULT: True, _RESULT: asdict(result)},
            )
            self._study.add_trial(trial)

    def pending(self, total: int) -> "Iterator[tuple[int, Trial]]":
        """Yield the trials to run with their numbers: first those that a stop has interrupted, then new ones.

        What a new one tries depends on the seed, its number and the trials that have finished by then.
        """
        import optuna

        running = optuna.trial.TrialState.RUNNING
        for number, trial in list(self._numbered()):
            if trial.state == running and number <= total:
                yield number, optuna.trial.Trial(self._study, trial._trial_id)
        while (number := 1 + sum(1 for _ in self._numbered())) <= total:
            seed = int(digest(["tune", self.settings.seed, number])[:8], 16)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=_RANDOM_TRIALS, multivariate=True
            )
            yield number, self._study.ask(self._spaces)

    def tell(self, trial: "Trial", result: TrialResult) -> None:
        """Store the result of a trial. One that failed counts as pruned before its first epoch: as bad."""
        import optuna

        trial.set_user_attr(_RESULT, asdict(result))
        if result.state == "complete":
            self._study.tell(trial, result.score)
        else:
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)

    def values(self, trial: "Trial | FrozenTrial") -> dict[str, str]:
        """Return the values of a trial as they are written after `=`."""
        return {each.name: each.space.text(trial.params[each.name]) for each in self.settings.parameters}

    def rows(self) -> list[TrialRow]:
        """Return the finished trials in the order in which they were begun."""
        return [
            TrialRow(number, self.values(trial), _read_result(trial.user_attrs[_RESULT]))
            for number, trial in self._numbered()
            if trial.state.is_finished() and _RESULT in trial.user_attrs
        ]

    def importance(self) -> dict[str, float]:
        """Return the share of each parameter in the variance of the scores (fANOVA, Hutter et al. 2014).

        Pruned trials have no score. Empty where fewer than five trials were completed, or all are equal.
        """
        import optuna

        completed = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if len(completed) < _FEWEST_FOR_IMPORTANCE or len({trial.value for trial in completed}) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.settings.seed)
        return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))

    def judge(self, number: int, epoch: int, score: float) -> bool:
        """Store the score of an epoch; return whether other trials had more by then.

        `number` is Optuna's of the trial.
        """
        import optuna

        stored = self._study.get_trials(deepcopy=False)[number]
        trial = optuna.trial.Trial(self._study, stored._trial_id)
        if (
            epoch not in stored.intermediate_values
        ):  # a resumed stage repeats none, a repeated one scores alike
            trial.report(score, epoch)
        return bool(trial.should_prune())

    def _numbered(self) -> "Iterator[tuple[int, FrozenTrial]]":
        """Yield every trial but the default with its number, from 1 on."""
        trials = self._study.get_trials(deepcopy=False)
        yield from enumerate((trial for trial in trials if _DEFAULT not in trial.user_attrs), 1)


@dataclass(frozen=True)
class Judge:
    """`TuningStudy.judge` of one trial, in whatever process of this machine; picklable."""

    settings: StudySettings
    number: int

    def __call__(self, epoch: int, score: float) -> bool:
        return self._study.judge(self.number, epoch, score)

    @cached_property
    def _study(self) -> TuningStudy:
        return TuningStudy(self.settings)


@dataclass
class Pruner(Observer):
    """Reports the score of each epoch of the last stage, and ends a run that is worse than others were.

    `judge` takes epoch and score, and returns whether that is bad.
    """

    stage: str
    epochs: int
    judge: Callable[[int, float], bool]
    history: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0

    def epoch(self, step: str, metrics: Mapping[str, float]) -> None:
        number, score = int(metrics["epoch"]), metrics.get("score")
        if step != f"train.{self.stage}" or score is None:
            return
        self.history.append((number, score))
        self.seconds = metrics.get("seconds", 0.0)
        if self.judge(number, score) and number < self.epochs:
            raise StopRun(f"epoch {number} has {score:.4f}, and other trials had more by then")


def _read_result(tree: Mapping[str, Any]) -> TrialResult:
    known = TrialResult.__dataclass_fields__
    return TrialResult(**{name: value for name, value in tree.items() if name in known})


def _make_pruner(settings: StudySettings) -> "BasePruner":
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if settings.pruner == "none":
        return NopPruner()
    if settings.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=max(settings.epochs, 2), reduction_factor=3)
    return MedianPruner(n_startup_trials=_UNPRUNED_TRIALS, n_warmup_steps=2)  # from the second epoch on


def _distribution(parameter: Parameter) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space = parameter.space
    if isinstance(space, Choice):
        return CategoricalDistribution(space.texts)
    if space.is_int:
        return IntDistribution(int(space.low), int(space.high), log=space.is_log, step=space.step)
    return FloatDistribution(space.low, space.high, log=space.is_log)
