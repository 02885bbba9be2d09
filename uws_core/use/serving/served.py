"""The handle of a model that serves members: choose, take in new ones, give the model back."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from threading import Lock
from types import TracebackType
from typing import Self

import torch
from torch import nn

from uws_core.errors import CollectionError
from uws_core.use.compressed_folder import CompressedFolder, open_compressed
from uws_core.use.serving import matching
from uws_core.use.serving.choice import Choice, Choosing
from uws_core.use.serving.modules import OwnWeights, SharedLinear, SharedParts

# A parent, the name it holds a module by, the module, and what stands there now.
Place = tuple[nn.Module, str, nn.Module, nn.Module]
_numbers = itertools.count()


class Served:
    """A model whose linear layers serve the members of a compressed folder; `attach` makes it.

    Call the model inside `with served.using(name):`. The choice belongs to the thread (or asyncio task) that made it;
    any number of threads may use different members at once. As a context manager, the handle detaches at the end.
    """

    def __init__(
        self, model: nn.Module, source: CompressedFolder, *, dtype: torch.dtype | None, own: bool, check_base: bool
    ) -> None:
        self._layers = matching.served_layers(model, source)
        if check_base:
            matching.check_base(model, source, self._layers)
        self.model, self.folder = model, source.path
        self._number, self._lock, self._dtype, self._keeps_own = next(_numbers), Lock(), dtype, own
        self._has_base = source.index["about"] != "mean"
        # The model's own modules by path: what is replaced keeps its name here.
        self._modules = dict(model.named_modules(remove_duplicate=False))
        # Row 0 of every table is the base.
        self._rows = {name: row + 1 for row, name in enumerate(source.members)}
        self._size = len(source.members) + 1
        tables = matching.own_weights(self._modules, source, source.members) if own else {}
        self._shared: dict[str, SharedLinear] = {}
        for layer in self._layers:
            biases = matching.bias_table(layer, tables.pop(layer.path, ({},)))
            parts = matching.shared_parts(source, layer, biases, dtype)
            self._shared[layer.path] = SharedLinear(layer.module, parts, self._number)
        self._own = {path: OwnWeights(self._modules[path], [{}, *rows], self._number) for path, rows in tables.items()}
        replacing = {self._modules[path]: module for path, module in (self._shared | self._own).items()}
        self._replaced = _swap(model, replacing)

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members that can be chosen."""
        return tuple(self._rows)

    @property
    def bytes_held(self) -> int:
        """Bytes in memory for all members: bases, cores and their own weights, without the model's."""
        return sum(
            tensor.nbytes
            for _, _, _, module in self._replaced
            for name, tensor in module.named_buffers()
            if not name.startswith("base_layer.")
        )

    def using(self, members: str | Sequence[str | None] | None) -> Choosing:
        """Serves one member for the whole batch, or with a list one member a row; None is the base.

        Switching costs a look-up of the name: no weight is copied or formed.

        Raises:
            CollectionError: no such member, the base of members that are stored about their mean, or a detached model.
        """
        self._check_attached()
        mixed = not (members is None or isinstance(members, str))
        if mixed and not isinstance(members, Sequence):
            raise CollectionError(
                f"using() takes a member's name, None for the base, or a list with one of them for each row of the "
                f"batch; found a {type(members).__name__}"
            )
        names: Sequence[str | None] = [members] if members is None or isinstance(members, str) else members
        rows = self._rows
        unknown = [repr(name) for name in names if name is not None and name not in rows]
        if unknown or not names:
            raise CollectionError(
                f"{self.folder.name} has no member {', '.join(unknown[:3]) or 'in an empty list'}; it has "
                f"{', '.join(list(rows)[:5])} and {max(len(rows) - 5, 0)} more. After a join, call `refresh()`"
            )
        if None in names and not self._has_base:
            raise CollectionError(
                f"The members of {self.folder.name} are stored about their mean, so there is no base to serve; "
                "name a member, or call `detach()` for the model as it was"
            )
        return Choosing(self._number, Choice(tuple(0 if name is None else rows[name] for name in names), mixed))

    def refresh(self) -> tuple[str, ...]:
        """Reads the folder again and returns the names of the members that have joined; calls go on meanwhile.

        Members that left can no longer be chosen; calls that chose them before end as they began. Price: one read of
        the cores of all members.

        Raises:
            CollectionError: the folder has another basis now, a new member has a tensor that the model cannot take, or
                the model is detached.
        """
        self._check_attached()
        with self._lock:
            source = open_compressed(self.folder)
            new = tuple(name for name in source.members if name not in self._rows)
            if new:
                self._grow(source, new)
            rows = self._rows | {name: self._size - len(new) + row for row, name in enumerate(new)}
            self._rows = {name: rows[name] for name in source.members}
            return new

    def detach(self) -> nn.Module:
        """Gives the model its own layers back and returns it."""
        for parent, name, module, _ in self._replaced:
            setattr(parent, name, module)
        self._replaced = ()
        return self.model

    def _check_attached(self) -> None:
        # Without a replaced layer the model would answer as its base, whatever is chosen.
        if not self._replaced:
            raise CollectionError(f"The model is detached from {self.folder.name}; attach the folder again")

    def _grow(self, source: CompressedFolder, new: Sequence[str]) -> None:
        """Longer tables with the new members as last rows. All is read and checked before a table is replaced."""
        picked = [0, *(source.members.index(name) + 1 for name in new)]
        own = matching.own_weights(self._modules, source, new) if self._keeps_own else {}
        parts: dict[SharedLinear, SharedParts] = {}
        for layer in self._layers:
            module = self._shared[layer.path]
            biases = matching.bias_table(layer, own.pop(layer.path, ({},)))
            parts[module] = matching.shared_parts(source, layer, biases, self._dtype)
            module.check_basis(parts[module], f"{layer.path} of {self.folder.name}")
        for module, added in parts.items():
            module.append(added, picked[1:])
        added_own: dict[str, nn.Module] = {}
        for path in own.keys() | self._own.keys():
            rows = own.get(path, tuple({} for _ in new))
            if path in self._own:
                self._own[path].append(rows)
            else:
                added_own[path] = self._own[path] = OwnWeights(
                    self._modules[path], [*({} for _ in range(self._size)), *rows], self._number
                )
        self._replaced += _swap(self.model, {self._modules[path]: module for path, module in added_own.items()})
        self._size += len(new)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def _swap(model: nn.Module, replacing: Mapping[nn.Module, nn.Module]) -> tuple[Place, ...]:
    """Puts modules in place of others wherever the model holds these, and returns the places."""
    places = [
        (parent, name, child, replacing[child])
        for parent in model.modules()
        # Not `named_children`, which names a module once.
        for name, child in parent._modules.items()
        if child is not None and child in replacing
    ]
    for parent, name, _, new in places:
        setattr(parent, name, new)
    return tuple(places)
