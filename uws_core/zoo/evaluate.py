"""The evaluator of the built-in networks: test score of a network at its task.

Code that scores changed weights (rebuilt, merged, truncated) takes an `Evaluate`. For your own models write a callable
of that type; `evaluate` is the one for the zoo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from uws_core.errors import CollectionError
from uws_core.nouns.models import Value
from uws_core.zoo import tasks

# One row of the collection's table, column to value; the column `model` holds the model's label.
ModelRow = Mapping[str, Value]
# `evaluate(state_dict, model) -> score`: all tensors of the model by name, and its row. Higher is better. It may
# raise or return NaN for a model it cannot score; the caller reports that and continues with the other models.
Evaluate = Callable[[Mapping[str, Tensor], ModelRow], float]


def evaluate(state_dict: Mapping[str, Tensor], model: ModelRow) -> float:
    """The test score of a tiny vision transformer at the task its row names: accuracy, or R2 of reconstruction.

    `state_dict` holds whole weights of any float dtype, with the task head; add an adapter to its base first
    (`zoo.lora.merge`). The 450 test pictures, their noise and masks are always the same.

    Raises:
        CollectionError: the row names no task of the zoo, or a tensor of the network is missing.
    """
    task = tasks.TASKS.get(str(model.get("task")))
    if task is None:
        known = ", ".join(tasks.TASKS)
        raise CollectionError(
            f"{model.get('model')!r} cannot be scored: its task is {model.get('task')!r}, expected one of {known}."
        )
    try:
        return task.score({name: tensor.float() for name, tensor in state_dict.items()}, tasks.digits()[1])
    except KeyError as missing:
        raise CollectionError(
            f"{model.get('model')!r} cannot be scored: the tensor {missing} is missing from its weights."
        ) from missing
