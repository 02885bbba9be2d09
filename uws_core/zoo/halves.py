"""Scores on two halves of the test pictures: one to choose an option, the other to judge the choice."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from uws_core.errors import CollectionError
from uws_core.nouns.models import Value
from uws_core.zoo import tasks
from uws_core.zoo.tasks import Split


def choose(state_dict: Mapping[str, Tensor], model: Mapping[str, Value]) -> float:
    """The score of a network at the task its row names, on the first half of the test pictures.

    Raises:
        CollectionError: the row names no task of the zoo.
    """
    return _score(state_dict, model, 0)


def judge(state_dict: Mapping[str, Tensor], model: Mapping[str, Value]) -> float:
    """The same on the second half.

    Raises:
        CollectionError: the row names no task of the zoo.
    """
    return _score(state_dict, model, 1)


def _score(state_dict: Mapping[str, Tensor], model: Mapping[str, Value], half: int) -> float:
    task = tasks.TASKS.get(str(model.get("task")))
    if task is None:
        raise CollectionError(f"{model.get('model')!r} cannot be scored: {model.get('task')!r} is no task of the zoo")
    test = tasks.digits()[1]
    # Every second picture: the fixed shuffle has no order that halves could differ in.
    part = Split(test.images[half::2], test.digits[half::2])
    return task.score({name: tensor.float() for name, tensor in state_dict.items()}, part)
