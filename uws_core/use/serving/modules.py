"""The modules that stand in for a model's own while it serves members: shared linear layers, and members' own weights.

y = W x + b + U c_i(V^T x), with U and V held once and every member's c_i in one table. No product U c_i V^T is formed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from uws_core.errors import CollectionError
from uws_core.use.serving.choice import Choice, Choosing, chosen, mix, pick


@dataclass(frozen=True)
class SharedParts:
    """What a layer with m outputs and p inputs holds for all members.

    `left` (m, k) and `right` (p, k) are None where a side is not compressed. `cores` are (1 + n, k_out, k_in), diagonal
    ones (1 + n, k); the first row is zero, the base. `center` (m, p) replaces the layer's own weight where members are
    stored about their mean. `biases` (1 + n, m) are what members add to the layer's own bias.
    """

    left: Tensor | None
    right: Tensor | None
    cores: Tensor
    center: Tensor | None = None
    biases: Tensor | None = None


class SharedLinear(nn.Module):
    """A linear layer (nn.Linear or transformers' Conv1D) that serves the members of a compressed folder."""

    cores: Tensor
    left: Tensor | None
    right: Tensor | None
    center: Tensor | None
    biases: Tensor | None

    def __init__(self, base_layer: nn.Module, parts: SharedParts, number: int) -> None:
        super().__init__()
        self.base_layer, self.number = base_layer, number
        # Not persistent: the state of the model stays the user's own.
        for name in ("left", "right", "cores", "center", "biases"):
            self.register_buffer(name, getattr(parts, name), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The chosen members' outputs (b, ..., m) for x (b, ..., p)."""
        if self.center is None:
            y: Tensor = self.base_layer(x)
        else:
            y = nn.functional.linear(x, self.center, self.bias)
        if self.biases is not None:
            y = y + pick(y, self.biases, self.number).to(y.dtype)
        inner = x.to(self.cores.dtype)
        if self.right is not None:
            inner = inner @ self.right
        inner = mix(inner, self.cores, self.number)
        if self.left is None:
            return y + inner.to(y.dtype)
        if y.dtype != inner.dtype:
            return y + (inner @ self.left.mT).to(y.dtype)
        # One product that adds in the same pass.
        return (
            torch.addmm(y.flatten(0, -2), inner.flatten(0, -2), self.left.mT).view_as(y)
            if y.ndim > 1
            else (y + inner @ self.left.mT)
        )

    def check_basis(self, parts: SharedParts, where: str) -> None:
        """Compares the basis with that of parts that were read again.

        Raises:
            CollectionError: it is another one.
        """
        for name in ("left", "right", "center"):
            ours, theirs = getattr(self, name), getattr(parts, name)
            if (ours is None) != (theirs is None) or (ours is not None and not torch.equal(ours, theirs.to(ours))):
                raise CollectionError(f"{where} has another basis now; call `detach()` and attach the folder again")

    def append(self, parts: SharedParts, rows: Sequence[int]) -> None:
        """Adds these rows of the parts' cores to the table, and the biases of as many new members."""
        like = self.biases if parts.biases is None else parts.biases
        if like is not None:
            before = like.new_zeros(self.cores.shape[0], like.shape[1]) if self.biases is None else self.biases
            after = like.new_zeros(len(rows), like.shape[1]) if parts.biases is None else parts.biases[1:]
            self.biases = torch.cat([before, after.to(before)])
        # A new table in one step: calls on the way see the old one or the new one, and their rows are in both.
        self.cores = torch.cat([self.cores, parts.cores[list(rows)].to(self.cores)])

    # Some models read these of their layers, such as `self.wo.weight.dtype`.
    @property
    def weight(self) -> Tensor:
        """The base layer's weight."""
        return self.base_layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.base_layer.bias  # type: ignore[return-value]


class OwnWeights(nn.Module):
    """A module of which members have weights of their own, such as a task head; `own[i]` are those of table row i.

    Members without any use the module's own. A mixed batch is split by member and put together again; layers inside
    the module then serve that member.
    """

    def __init__(self, base_layer: nn.Module, own: Sequence[Mapping[str, Tensor]], number: int) -> None:
        super().__init__()
        self.base_layer, self.number = base_layer, number
        self.own = nn.ModuleList(_holder(tensors) for tensors in own)

    def append(self, own: Sequence[Mapping[str, Tensor]]) -> None:
        """Adds members' own tensors as last rows."""
        self.own.extend(_holder(tensors) for tensors in own)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor, *others: Any, **options: Any) -> Any:  # noqa: ANN401 - as the module it stands for
        """The module's output with the chosen members' weights."""
        choice = chosen(self.number)
        if len(set(choice.rows)) == 1:
            return self._call(choice.rows[0], x, *others, **options)
        choice.check(x.shape[0])
        if others or any(isinstance(value, Tensor) for value in options.values()):
            raise CollectionError(
                f"{type(self.base_layer).__name__} takes several tensors and members have weights of their own there; "
                "use one member a call"
            )
        ids, rows = choice.ids(x.device), sorted(set(choice.rows))
        parts = {row: self._call(row, x[ids == row], **options) for row in rows}
        shapes = {tuple(part.shape[1:]) for part in parts.values()}
        if len(shapes) > 1:
            raise CollectionError(
                f"The members of this batch have {type(self.base_layer).__name__} outputs of different shapes "
                f"({', '.join(str(shape) for shape in sorted(shapes))}); batch members of one shape, or attach with "
                "own=False and apply their heads yourself"
            )
        first = parts[rows[0]]
        y = first.new_empty((x.shape[0], *first.shape[1:]))
        for row, part in parts.items():
            y[ids == row] = part
        return y

    def _call(self, row: int, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401
        own = dict(self.own[row].named_buffers())
        with Choosing(self.number, Choice((row,), mixed=False)):
            if own:
                return functional_call(self.base_layer, own, inputs, options)
            return self.base_layer(*inputs, **options)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        try:
            return super().__getattr__(name)
        except AttributeError:
            # The model may read attributes of its own module, such as `head.out_features`.
            return getattr(super().__getattr__("base_layer"), name)


def _holder(tensors: Mapping[str, Tensor]) -> nn.Module:
    holder = nn.Module()
    for name, tensor in tensors.items():
        holder.register_buffer(name, tensor, persistent=False)
    return holder
