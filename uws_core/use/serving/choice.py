"""Which member serves which row of the batch. The choice travels with the call, so threads do not meet."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from uws_core.errors import CollectionError


@dataclass(frozen=True)
class Choice:
    """One row of the tables for the whole batch (`rows` has one entry), or one for each row of the batch (`mixed`)."""

    rows: tuple[int, ...]
    mixed: bool
    # The rows as a tensor on each device that asked for them.
    _ids: dict[torch.device, Tensor] = field(default_factory=dict)

    def ids(self, device: torch.device) -> Tensor:
        """The rows (b,) on a device; copied there once a choice, not once a layer."""
        if device not in self._ids:
            # From locked pages the copy to a GPU does not wait for the work that is queued there.
            cuda = device.type == "cuda"
            self._ids[device] = torch.tensor(self.rows, pin_memory=cuda).to(device, non_blocking=cuda)
        return self._ids[device]

    def check(self, batch: int) -> None:
        """Compares the number of rows with that of a batch.

        Raises:
            CollectionError: they differ.
        """
        if len(self.rows) != batch:
            raise CollectionError(
                f"{len(self.rows)} members were chosen for a batch, and a layer got {batch} rows. Choose one member a "
                "row; where the model folds other axes into its rows (beams, experts), use one member a call"
            )


@dataclass(frozen=True)
class _Chosen:
    """The choices in force, by number of the served model, and those that were in force before the last one."""

    by_model: Mapping[int, Choice]
    before: _Chosen | None


# A context variable is its own in each thread and each asyncio task.
_CHOSEN: ContextVar[_Chosen | None] = ContextVar("uws_served_members", default=None)


@dataclass(frozen=True)
class Choosing:
    """Makes a choice for one served model, in this thread or task, inside a `with` block; as often as one likes."""

    number: int
    choice: Choice

    def __enter__(self) -> None:
        before = _CHOSEN.get()
        others = before.by_model if before is not None else {}
        _CHOSEN.set(_Chosen({**others, self.number: self.choice}, before))

    def __exit__(self, *raised: object) -> None:
        last = _CHOSEN.get()
        _CHOSEN.set(last.before if last is not None else None)


def chosen(number: int) -> Choice:
    """The choice that was made for a served model in this thread or task.

    Raises:
        CollectionError: none was made.
    """
    last = _CHOSEN.get()
    choice = last.by_model.get(number) if last is not None else None
    if choice is None:
        raise CollectionError(
            "No member is chosen in this thread; call the model inside `with served.using(name):`, "
            "or `using(None)` for the base"
        )
    return choice


def mix(values: Tensor, cores: Tensor, number: int) -> Tensor:
    """Multiplies every row of `values` (b, ..., k_in) by its member's core, taken from `cores` (n, k_out, k_in).

    Diagonal cores are (n, k). Returns (b, ..., k_out). Only the chosen cores are read: one member is a view of the
    table, b members are b gathered cores. Opaque to torch.compile, which sees one call with a known shape.

    Raises:
        CollectionError: no choice was made, or it has another number of rows than the batch.
    """
    if torch.compiler.is_compiling():
        return torch.ops.uws.mix(values, cores, number)  # type: ignore[no-any-return]
    return _mix(values, cores, number)


def pick(values: Tensor, table: Tensor, number: int) -> Tensor:
    """The row of `table` (n, m) that each row of `values` (b, ...) chose, shaped (b, 1, ..., m) for adding.

    Raises:
        CollectionError: no choice was made, or it has another number of rows than the batch.
    """
    if torch.compiler.is_compiling():
        return torch.ops.uws.pick(values, table, number)  # type: ignore[no-any-return]
    return _pick(values, table, number)


def _mix(values: Tensor, cores: Tensor, number: int) -> Tensor:
    choice = chosen(number)
    diagonal = cores.ndim == 2
    if not choice.mixed:
        core = cores[choice.rows[0]]
        return values * core if diagonal else values @ core.mT
    choice.check(values.shape[0] if values.ndim > 1 else 1)
    picked = cores[choice.ids(cores.device)]
    if diagonal:
        return values * picked.view(picked.shape[0], *(1,) * (values.ndim - 2), -1)
    rows = values.reshape(values.shape[0], -1, values.shape[-1])
    return torch.bmm(rows, picked.mT).reshape(*values.shape[:-1], -1)


def _pick(values: Tensor, table: Tensor, number: int) -> Tensor:
    choice = chosen(number)
    batch = values.shape[0] if values.ndim > 1 else 1
    if not choice.mixed:
        picked = table[choice.rows[0]].expand(batch, -1)
    else:
        choice.check(batch)
        picked = table[choice.ids(table.device)]
    return picked.reshape(*_picked_shape(values, table))


def _picked_shape(values: Tensor, table: Tensor) -> tuple[int, ...]:
    if values.ndim < 2:
        return (table.shape[-1],)
    return (values.shape[0], *(1,) * (values.ndim - 2), table.shape[-1])


# CUDA graphs would replay the members of the call that was captured.
_TAGS = (torch.Tag.cudagraph_unsafe,)


@torch.library.custom_op("uws::mix", mutates_args=(), tags=_TAGS)
def _mix_op(values: Tensor, cores: Tensor, number: int) -> Tensor:
    return _mix(values, cores, number)


@torch.library.custom_op("uws::pick", mutates_args=(), tags=_TAGS)
def _pick_op(values: Tensor, table: Tensor, number: int) -> Tensor:
    return _pick(values, table, number).clone()


@_mix_op.register_fake
def _(values: Tensor, cores: Tensor, number: int) -> Tensor:
    return values.new_empty((*values.shape[:-1], values.shape[-1] if cores.ndim == 2 else cores.shape[1]))


@_pick_op.register_fake
def _(values: Tensor, table: Tensor, number: int) -> Tensor:
    return table.new_empty(_picked_shape(values, table))
