"""Scores on two halves of the test pictures: one to choose an option, the other to judge the choice."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from uws_core.errors import CollectionError
from uws_core.nouns.models import Value
from uws_core.zoo import tasks, vit
from uws_core.zoo.tasks import Split


@torch.no_grad()
def halves(state_dict: Mapping[str, Tensor], model: Mapping[str, Value]) -> tuple[float, float]:
    """The scores of a network at the task its row names, on every second test picture and on the others.

    The fixed shuffle of the pictures has no order that the halves could differ in. One pass over all 450 pictures.

    Raises:
        CollectionError: the row names no task of the zoo.
    """
    task = tasks.TASKS.get(str(model.get("task")))
    if task is None:
        raise CollectionError(f"{model.get('model')!r} cannot be scored: {model.get('task')!r} is no task of the zoo")
    test = tasks.digits()[1]
    inputs = task.picture(test.images, tasks.seeded(f"score {task.name}"))
    weights = {name: tensor.float() for name, tensor in state_dict.items()}
    answers = vit.forward(weights, inputs, per_token=task.reconstructs)
    first, second = (
        task.score_of(answers[half::2], inputs[half::2], Split(test.images[half::2], test.digits[half::2]))
        for half in (0, 1)
    )
    return first, second
