"""Translates between Hydra and :mod:`speakerquant.search`: overrides, jobs and their results."""

import itertools
import json
import logging
import math
import secrets
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from hydra_plugins.optuna_sweeper._job_loader import JobLoader
from hydra_plugins.optuna_sweeper._overrides import (
    ParsedOverrides,
    default_point,
    parse_overrides,
    point_overrides,
)
from hydra_plugins.optuna_sweeper._settings import OptunaSweeperConf
from speakerquant.credentials import hide_credentials
from speakerquant.errors import ServiceError, UserError, first_line
from speakerquant.files import atomic_path, digest
from speakerquant.report.search_report import SearchReport
from speakerquant.search.application import TRIAL_FILE, SearchApplication
from speakerquant.search.goals import Goals
from speakerquant.search.ledger import Claim, Ledger
from speakerquant.search.search_loop import Budget, Failed, Interrupted, Outcome, Succeeded, Unavailable
from speakerquant.search.session import Session
from speakerquant.search.space import Point, Space
from speakerquant.search.storage import is_for_several_machines, open_storage, shown
from speakerquant.search.suggestion import check_sampler

log = logging.getLogger(__name__)

# Overrides that configure the search and mean nothing to a single evaluation.
_SEARCH_OVERRIDES = (
    *("hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher"),
    *("hydra.sweep.", "hydra.mode"),
)


class Implementation:
    """What :class:`hydra_plugins.optuna_sweeper.sweeper.OptunaSweeper` does, with its heavy imports."""

    def __init__(self, settings: OptunaSweeperConf) -> None:
        self._settings = settings
        self._returns: list[Sequence[JobReturn]] = []

    def setup(self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._config = config
        self._loader = JobLoader(hydra_context.config_loader)
        self._application = _application(self._settings.application)
        self._launcher = Plugins.instance().instantiate_launcher(
            config=config,
            hydra_context=HydraContext(config_loader=self._loader, callbacks=hydra_context.callbacks),
            task_function=task_function,
        )
        self._folder = Path(config.hydra.sweep.dir)

    def sweep(self, arguments: list[str]) -> Sequence[Sequence[JobReturn]]:
        """Run the search.

        Returns:
            The launched batches.

        Raises:
            UserError: the settings contradict themselves, the configuration, or the stored study.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings, application = self._settings, self._application
        given = _by_name(settings.params)
        overrides = parse_overrides(given, arguments, self._loader)
        own = self._own(overrides.fixed, arguments)
        defaults, sample = self._sample(overrides, own)
        if suggested := application.params(sample, overrides.keys):
            overrides = parse_overrides({**suggested, **given}, arguments, self._loader)
            defaults, sample = self._sample(overrides, own)
        space = overrides.space
        if not space.axes:
            raise UserError(
                "hydra.sweeper.params: nothing to search; give keys to search, such as key=choice(a,b)"
            )
        goals = application.goals(
            sample, Goals(_by_name(settings.objectives), _by_name(settings.constraints))
        )
        budget = Budget(settings.n_trials, settings.n_jobs, settings.max_failure_rate)
        if disturbed := [name for name in goals.names if budget.n_jobs > 1 and application.is_time(name)]:
            raise UserError(
                f"hydra.sweeper.n_jobs={budget.n_jobs}: {disturbed[0]} is a time, "
                "which jobs running beside each other disturb; set hydra.sweeper.n_jobs=1"
            )
        make_sampler = self._sampler if settings.sampler.get("_target_") else None
        if make_sampler and (warning := check_sampler(make_sampler(0), space, goals)):
            log.warning(warning)
        self._check_choices(space, defaults, overrides.fixed)
        final = application.final_overrides(sample)
        finally_comparable = self._final_fingerprint(overrides, defaults, final) if final else None
        comparable = application.fingerprint(sample, space, goals)
        ledger, *final_ledgers = self._open_ledgers(space, goals, comparable, finally_comparable)
        first_points = (
            application.first_points(sample, space, goals, defaults) if settings.warm_start else None
        )
        if first_points is None and make_sampler is None:
            raise UserError(
                "hydra/sweeper/sampler=none evaluates first points only, and there are none: set "
                "hydra.sweeper.warm_start=true, or choose a sampler"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._folder / "multirun.yaml") as part:
            part.write_text(hide_credentials(OmegaConf.to_yaml(self._config)), encoding="utf-8")
        where = shown(settings.storage) if settings.storage else "memory"
        log.info("study %s in %s, jobs in %s", ledger.name, where, self._folder)
        session = Session(
            ledger,
            final_ledgers[0] if final_ledgers else None,
            final,
            application,
            partial(self._launch, overrides.fixed),
            SearchReport(
                ledger.name,
                goals,
                application.view(sample, goals),
                partial(self._command, [*overrides.fixed, *final]),
                self._folder,
                int(min(budget.n_trials, space.size)),
            ),
            application.observer(sample, [ledger, *final_ledgers], self._folder),
        )
        session.run(budget, first_points, make_sampler, self._seed())
        return self._returns

    def _final_fingerprint(
        self, overrides: ParsedOverrides, defaults: Point, final: Sequence[str]
    ) -> Mapping[str, str]:
        """What a final evaluation depends on beside the rest."""
        config = self._compose([*point_overrides(defaults), *overrides.fixed, *final])
        return self._application.final_fingerprint(_of_job(config))

    def _open_ledgers(
        self,
        space: Space,
        goals: Goals,
        comparable: Mapping[str, str],
        finally_comparable: Mapping[str, str] | None,
    ) -> list[Ledger]:
        """The ledger of the search, and that of the final evaluation if the application has one."""
        fingerprint = {
            **{f"axis {name}": text for name, text in space.describe().items()},
            "objectives": str(dict(goals.objectives)),
            "constraints": str(dict(goals.constraints)),
            **comparable,
        }
        name = self._settings.study_name or f"search-{digest(fingerprint)[:8]}"
        location = self._settings.storage
        storage = open_storage(location)
        ledgers = [Ledger(storage, name, space, goals, fingerprint)]
        if finally_comparable is not None:
            which = f"-{digest(finally_comparable)[:8]}" if finally_comparable else ""
            final = {**fingerprint, **finally_comparable}
            # Without constraints, of which another list may not show the numbers: nothing is chosen there.
            finally_wanted = Goals(goals.objectives, {})
            ledgers.append(
                Ledger(storage, f"{name}-final{which}", space, finally_wanted, final, retries=math.inf)
            )
        others = {machine for ledger in ledgers for machine in ledger.other_machines()}
        if location and others and not is_for_several_machines(location):
            raise UserError(
                f"hydra.sweeper.storage={shown(location)}: {min(others)} works on this study too; several "
                "machines damage a SQLite file; use PostgreSQL, or a journal file (a path)"
            )
        return ledgers

    def _own(self, fixed: Sequence[str], arguments: Sequence[str]) -> DictConfig | None:
        """The configuration before a point is set; none if an axis chooses of a group without a default."""
        if {*fixed} <= {*arguments} and not OmegaConf.missing_keys(self._config.hydra.runtime.choices):
            return self._config  # which is of these overrides
        try:
            return self._compose(fixed)
        except HydraException:
            return None

    def _sample(self, overrides: ParsedOverrides, own: DictConfig | None) -> tuple[Point, DictConfig]:
        """The default point, and its configuration as the jobs see it."""
        defaults = default_point(overrides.space, own)
        if own is not None and all(OmegaConf.select(own, name) == value for name, value in defaults.items()):
            sample = deepcopy(own)
        else:
            sample = self._compose([*point_overrides(defaults), *overrides.fixed])
        return defaults, _of_job(sample)

    def _check_choices(self, space: Space, defaults: Point, fixed: Sequence[str]) -> None:
        """Compose with every choice, as many axes at once as compose together: each time takes a while.

        Raises:
            HydraException: a choice does not compose with the defaults.
        """
        others = {
            name: [choice for choice in getattr(axis, "choices", ()) if choice != defaults[name]]
            for name, axis in space.axes.items()
        }
        for number in range(max(map(len, others.values()))):
            changes = {name: choices[number] for name, choices in others.items() if number < len(choices)}
            try:
                self._compose([*point_overrides({**defaults, **changes}), *fixed])
            except (HydraException, OmegaConfBaseException):
                for name, choice in changes.items():
                    self._compose([*point_overrides({**defaults, name: choice}), *fixed])

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        return self._loader.load_sweep_config(self._config, list(overrides))

    def _seed(self) -> int:
        seed = self._settings.sampler.get("seed")
        return secrets.randbits(32) if seed is None else int(seed)

    def _sampler(self, seed: int) -> BaseSampler:
        """The configured sampler, with this seed if it takes one."""
        config = self._settings.sampler
        _check_class(
            "hydra.sweeper.sampler._target_", config.get("_target_"), BaseSampler, "an Optuna sampler"
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                sampler: BaseSampler = instantiate(config, **({"seed": seed} if "seed" in config else {}))
        except HydraException as error:
            raise UserError(
                f"hydra.sweeper.sampler: {first_line(error.__cause__ or error)}; check its arguments"
            ) from None
        return sampler

    def _launch(self, fixed: Sequence[str], claims: Sequence[Claim], further: Sequence[str]) -> list[Outcome]:
        """Evaluate points as Hydra jobs, each in a new folder; the trial's number is the job's number."""
        jobs = []
        for claim in claims:
            overrides = [*point_overrides(claim.point), *fixed, *further]
            config = self._loader.compose_job(self._config, overrides, claim.number)
            name = str(config.hydra.sweep.subdir)
            folder = self._new_folder(f"final-{name}" if further else name)
            record = {"study": claim.study, "trial": claim.number, "source": claim.source}
            record |= {"point": claim.point, "is_final": bool(further)}
            (self._folder / folder / TRIAL_FILE).write_text(json.dumps(record), encoding="utf-8")
            jobs.append(self._loader.place_job(config, overrides, folder))
        try:
            returns = self._launcher.launch(jobs, initial_job_idx=claims[0].number)
        except (HydraException, OmegaConfBaseException, UserError):
            raise  # the configuration itself: no other point would fare better
        except Exception as error:
            log.exception("the launcher failed")
            reason = f"the launcher failed: {first_line(error)}"
            # Together with others it is unknown whose fault it was: each is tried again alone.
            return [Failed(reason)] if len(claims) == 1 else [Interrupted(reason)] * len(claims)
        finally:
            self._loader.forget_jobs()
        self._returns.append(returns)
        return [_outcome(job) for job in returns]

    def _new_folder(self, name: str) -> str:
        """Make a folder in the sweep folder that no process has made before."""
        for suffix in itertools.chain([""], (f"-{count}" for count in itertools.count(2))):
            try:
                (self._folder / f"{name}{suffix}").mkdir(parents=True)
                return f"{name}{suffix}"
            except FileExistsError:
                continue
        raise AssertionError

    def _command(self, further: Sequence[str], point: Point) -> str:
        """The command that evaluates a single point on the final data."""
        hydra = OmegaConf.to_container(self._config.hydra.overrides.hydra)
        task = OmegaConf.to_container(self._config.hydra.overrides.task)
        assert isinstance(hydra, list) and isinstance(task, list)
        flags = [word for word in sys.argv[1:] if word not in (*hydra, *task, "-m", "--multirun")]
        kept = [override for override in hydra if not override.lstrip("+~").startswith(_SEARCH_OVERRIDES)]
        program = Path(sys.argv[0])
        words = ["python", str(program)] if program.suffix == ".py" else [program.name]
        overrides = [*kept, "hydra.mode=RUN", *point_overrides(point), *further]
        return hide_credentials(shlex.join([*words, *flags, *overrides]))


def _of_job(config: DictConfig) -> DictConfig:
    """A configuration as a job sees it, which this changes it to."""
    with open_dict(config):
        del config["hydra"]
    return config


def _application(path: str | None) -> SearchApplication:
    """An instance of the class at an import path; without a path, one that adds nothing to the search."""
    if path is None:
        return SearchApplication()
    _check_class("hydra.sweeper.application", path, SearchApplication, "a SearchApplication")
    application: SearchApplication = get_class(path)()
    return application


def _check_class(key: str, path: Any, base: type, kind: str) -> None:
    """Check that the import path given for a configuration key leads to a class with this base.

    Raises:
        UserError: it does not.
    """
    advice = f"give the import path of {kind}"
    try:
        found = get_class(path)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"{key}={path}: cannot be imported ({first_line(error)}); {advice}") from None
    if not issubclass(found, base):
        raise UserError(f"{key}={path}: not {kind}; {advice}")


def _by_name(config: Any) -> dict[str, Any]:
    """Values of the configuration by dotted names, as the command line nests what has a dot in its name."""
    container: Any = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    found: dict[str, Any] = {}
    for name, value in (container or {}).items():
        if isinstance(value, dict):
            found |= {f"{name}.{rest}": each for rest, each in _by_name(value).items()}
        else:
            found[name] = value
    return found


def _outcome(job: JobReturn) -> Outcome:
    value = job._return_value  # the property would print the exception and raise it
    if job.status is JobStatus.UNKNOWN:
        return Interrupted(first_line(value))  # the launcher lost it
    if isinstance(value, ServiceError):
        return Unavailable(first_line(value))
    if job.status is not JobStatus.COMPLETED:
        return Failed(first_line(value) if isinstance(value, BaseException) else str(value))
    if isinstance(value, Mapping):
        return Succeeded(value)
    if isinstance(value, Real):
        return Succeeded({"value": float(value)})
    return Failed(f"the job returned {type(value).__name__}, not a number or a mapping with numbers")
