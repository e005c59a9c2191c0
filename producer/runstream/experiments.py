"""Experiments as this process knows them: the current one, and which of them were announced on the stream."""

import time
from typing import Final, NamedTuple

from runstream.client import client
from runstream_schemas import events as ev
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.names import DEFAULT_EXPERIMENT, DEFAULT_EXPERIMENT_ID, experiment_id_of, is_experiment_id

__all__ = [
    "Experiment",
    "announce",
    "checked_id",
    "checked_name",
    "current_experiment",
    "experiment_of_run",
    "select",
    "selected",
]

_MAX_EXPERIMENT_NAME: Final = 500


class Experiment(NamedTuple):
    """An experiment, as far as this process knows it."""

    experiment_id: str
    name: str


def select(experiment: Experiment | None) -> None:
    """Make it the experiment of all runs that this process starts from now on; None: the settings decide."""
    _selected[:] = [] if experiment is None else [experiment]


def selected() -> Experiment | None:
    """What the program has selected."""
    return _selected[0] if _selected else None


def experiment_of_run(experiment_id: str | None) -> Experiment:
    """The experiment with that id, or the current one."""
    if experiment_id is not None:
        return Experiment(checked_id(experiment_id), "")
    return current_experiment()


def current_experiment() -> Experiment:
    """The experiment that holds: set by the program, else by the settings, else Default; announced in this process."""
    experiment = selected()
    if experiment is None:
        return announce(client.config.experiment or DEFAULT_EXPERIMENT, {})
    if not experiment.name or experiment.experiment_id in client.announced:
        return experiment
    return announce(experiment.name, {})


def announce(name: str, tags: dict[str, str]) -> Experiment:
    """Let the stream know of an experiment, once a process."""
    experiment = Experiment(experiment_id_of(name), name)
    known = experiment.experiment_id in client.announced or experiment.experiment_id == DEFAULT_EXPERIMENT_ID
    if tags or not known:
        now = time.time_ns() // 1_000_000
        client.emit(ev.ExperimentCreated(experiment.experiment_id, name, now, tags))
    client.announced.add(experiment.experiment_id)
    return experiment


def checked_name(name: object) -> str:
    """Return an experiment's name; raise `InvalidInputError` if it cannot be one."""
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_EXPERIMENT_NAME:
        raise InvalidInputError(
            f"an experiment's name is text of 1 to {_MAX_EXPERIMENT_NAME} characters, not {name!r:.100}"
        )
    return name


def checked_id(experiment_id: object) -> str:
    """Return an experiment's id as text; raise `InvalidInputError` if it is none."""
    text = str(experiment_id)
    if not is_experiment_id(text):
        raise InvalidInputError(f"experiment id {text!r:.100} is not a decimal number below 2**63")
    return text


_selected: list[Experiment] = []
