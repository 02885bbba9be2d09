"""Whole weights merged tensor by tensor: every rule works on slabs of rows, so that memory does not grow with a tensor.

A tensor on disk is read in blocks that the cache holds, once to merge and once more for each look that a rule takes
first. One that is trimmed, or that comes from the Hub, is held where its updates fit half of the budget, and read anew
where not. Updates are `W_i - base` in float32 (float64 where weights are).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from uws_core.analysis.merge_methods import combine
from uws_core.errors import BudgetError, LayerError
from uws_core.nouns.cost import bytes_text, slab_rows
from uws_core.nouns.merge_preview import MergeGrams
from uws_core.nouns.merging import MergeMethod, MergeRecipe, Need
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.open_models import open_models, product_dtype
from uws_core.sources.base import Source, on_hub
from uws_core.sources.files.buffers import buffer_of
from uws_core.sources.files.row_slabs import SlabReader, at_once, slabs
from uws_core.use.merge.entries import Rule, chunk_rows, chunks, entry_rule
from uws_core.use.merge.factors import Factors, Thin, merged_factors
from uws_core.use.merge.measures import Sums
from uws_core.use.merge.order import Cut

# Blocks of the cache's size that are read at once.
_BLOCKS = 16
# Rules that need no look at the updates first.
_FIXED = (MergeMethod.MEAN, MergeMethod.LINEAR, MergeMethod.TASK_ARITHMETIC)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a tensor: the members' updates (n, rows, p) and the base (rows, p), None where it is zero."""

    updates: Tensor
    base: Tensor | None


class HeldTensor:
    """A small tensor of all members that is no layer, such as a bias, as one row; see `TensorUpdates`."""

    def __init__(self, name: str, members: Sequence[Tensor], base: Tensor | None) -> None:
        kind = torch.float64 if members[0].dtype == torch.float64 else torch.float32
        rows = torch.stack([member.to(kind).reshape(1, -1) for member in members])
        self._base = None if base is None else base.to(kind).reshape(1, -1)
        self._updates = rows if self._base is None else rows - self._base
        if not bool(torch.isfinite(self._updates).all()):
            raise LayerError(f"{name}: numbers of a member or of the base are NaN or infinite; leave that model out")
        self.n, self.budget = len(members), 0
        self.shape = 1, self._updates.shape[2]
        self.key = LayerKey(name, self.shape)

    @property
    def in_memory(self) -> Tensor | None:
        """All of the updates."""
        return self._updates

    def pieces(self) -> Iterator[Piece]:
        """The updates and the base as one piece."""
        yield Piece(self._updates, self._base)

    def slabs(self) -> Iterator[Tensor]:
        """All of the updates."""
        yield self._updates


class TensorUpdates:
    """One tensor of all members about the base, from the opened sources, the base last; see `entries.Updates`."""

    def __init__(self, sources: Sequence[Source], key: LayerKey, *, with_base: bool, budget: int) -> None:
        self._sources, self.key, self._with_base, self.budget = sources, key, with_base, budget
        self.n = len(sources) - with_base
        self.shape = key.shape
        self._kind = product_dtype("auto", sources, key)
        # What is in a file can be read again in small parts; each part from the Hub would be a request.
        self._on_disk = all(not on_hub(source.ref) and source.reader(key.name) is not None for source in sources)

    @cached_property
    def _held(self) -> Piece | None:
        """The whole tensor, where it fits half of the budget: pieces of it are worked on beside it."""
        n, (m, p) = len(self._sources), self.shape
        if not self._on_disk:
            values = at_once(self._sources, self.key, dtype=self._kind, budget=self.budget // 2)
            return None if values is None else self._about_base(values)
        if n * m * p * self._kind.itemsize > self.budget // 2:
            return None
        # Block by block, so that a block is still in the cache when the base is taken off.
        whole, start = buffer_of(self.n, m, p, self._kind), 0
        base = buffer_of(1, m, p, self._kind)[0] if self._with_base else None
        for piece in self._blocks():
            stop = start + piece.updates.shape[1]
            whole[:, start:stop] = piece.updates
            if base is not None and piece.base is not None:
                base[start:stop] = piece.base
            start = stop
        return Piece(whole, base)

    @property
    def in_memory(self) -> Tensor | None:
        """All of the updates, where they are in memory."""
        return None if self._held is None else self._held.updates

    def _blocks(self) -> Iterator[Piece]:
        """The updates with the base in blocks that the cache holds, each in the memory of the one before."""
        n, (m, p) = len(self._sources), self.shape
        most = slab_rows(n, self.key, item_bytes=self._kind.itemsize, budget=self.budget // 2)
        height = min(chunk_rows(self.n, p), m, most)
        kinds = {rows.dtype for source in self._sources if (rows := source.reader(self.key.name)) is not None}
        # A read opens its file, which costs as much as converting a block: so many blocks are read at once.
        stored = kinds.pop() if len(kinds) == 1 else self._kind
        read = buffer_of(n, min(m, _BLOCKS * height, most), p, stored)
        block = buffer_of(n, height, p, self._kind)
        reader = SlabReader(self._sources, self.key, read)
        for first in range(0, m, read.shape[1]):
            stop = min(first + read.shape[1], m)
            reader.read(first, stop)
            for at in range(0, stop - first, height):
                part = read[:, at : min(at + height, stop - first)]
                yield self._about_base(block[:, : part.shape[1]].copy_(part))

    def pieces(self) -> Iterator[Piece]:
        """The updates with the base, in slabs of rows.

        Raises:
            LayerError: weights of a member are NaN or infinite.
        """
        # What nobody asked to hold is read in blocks.
        held = self.__dict__.get("_held") if self._on_disk else self._held
        if held is not None:
            yield held
            return
        if self._on_disk:
            yield from self._blocks()
            return
        for slab in slabs(self._sources, self.key, dtype=self._kind, budget=self.budget // 2):
            yield self._about_base(slab.values)

    def slabs(self) -> Iterator[Tensor]:
        """The updates in slabs of rows."""
        for piece in self.pieces():
            yield piece.updates

    def _about_base(self, values: Tensor) -> Piece:
        base = values[-1] if self._with_base else None
        updates = values[: self.n]
        if base is not None:
            updates -= base
        # One sum says whether all entries are finite, at the speed of memory.
        if not bool(torch.isfinite(updates.sum())):
            wrong = [i for i, member in enumerate(updates) if not bool(torch.isfinite(member).all())]
            if wrong:
                names = ", ".join(self._sources[i].ref.repo.rpartition("/")[2] for i in wrong[:3])
                raise LayerError(
                    f"{self.key.name}: weights of {names} (or of the base) are NaN or infinite; leave that model out"
                )
        return Piece(updates, base)


AnyUpdates = TensorUpdates | HeldTensor


def products(updates: AnyUpdates, labels: Sequence[str]) -> MergeGrams:
    """Returns the inner products of a tensor's updates and of the base, in float64, from one pass."""
    total = torch.zeros(updates.n + 1, updates.n + 1, dtype=torch.float64)
    based = False
    for piece in updates.pieces():
        based = piece.base is not None
        for start in range(0, piece.updates.shape[1], _height(piece.updates)):
            rows = slice(start, start + _height(piece.updates))
            part = piece.updates[:, rows].flatten(1).double()
            last = torch.zeros_like(part[:1]) if piece.base is None else piece.base[rows].reshape(1, -1).double()
            stack = torch.cat([part, last])
            total += stack @ stack.T
    values = total.numpy()
    return MergeGrams(
        layers=(updates.key,),
        labels=tuple(labels),
        updates=values[None, :-1, :-1],
        to_base=values[None, -1, :-1],
        base_norm2=values[None, -1, -1],
        sharpest=np.zeros(1),
        has_base=based,
    )


def merged_pieces(
    recipe: MergeRecipe, updates: AnyUpdates, labels: Sequence[str], *, cuts: Sequence[Cut] | None, sums: Sums
) -> Iterator[Tensor]:
    """The merged tensor `base + scale * method(updates)` in pieces (rows, p); adds each to `sums`."""
    matrix = min(updates.shape) > 1
    need = recipe.facts.need
    if need is Need.FACTORS and matrix:
        yield from _of_matrix(recipe, updates, sums)
        return
    if need is Need.FACTORS:
        # What is no matrix has no factors: it is averaged, as the authors' programs do.
        recipe = replace(recipe, method=MergeMethod.LINEAR)
    # Of the base, a share that only rules on whole weights have.
    rule, of_base = _rule(recipe, updates, labels, cuts)
    for piece in updates.pieces():
        start = 0
        for chunk in chunks(piece.updates):
            merged = rule(chunk)
            base = None if piece.base is None else piece.base[start : start + chunk.shape[1]]
            if base is not None and of_base:
                merged = merged + of_base * base
            start += chunk.shape[1]
            sums.add(chunk, merged)
            yield merged * recipe.scale if base is None else torch.add(base, merged, alpha=recipe.scale)


def _rule(
    recipe: MergeRecipe, updates: AnyUpdates, labels: Sequence[str], cuts: Sequence[Cut] | None
) -> tuple[Rule, float]:
    if recipe.facts.need is Need.ENTRIES or recipe.method in _FIXED:
        return entry_rule(recipe, updates, updates.key.name, cuts=cuts), 0.0
    merged = combine(products(updates, labels), recipe)
    coefficients = np.array(merged.coefficients)[0]
    of_base = 0.0 if merged.base_coefficient is None else float(merged.base_coefficient[0])
    return lambda values: torch.tensordot(torch.as_tensor(coefficients, dtype=values.dtype), values, dims=1), of_base


def _of_matrix(recipe: MergeRecipe, updates: AnyUpdates, sums: Sums) -> Iterator[Tensor]:
    """A method of factors on whole weights: each update through its own singular values, the rest as for adapters."""
    m, p = updates.shape
    held = updates.in_memory
    if held is None or held.numel() * 8 > updates.budget:
        raise BudgetError(
            f"{updates.key.name}: {recipe.method} decomposes whole matrices, {updates.n} of {m} x {p} in float64 take "
            f"{bytes_text(8 * updates.n * m * p)}; raise the budget to three times that, or take another method"
        )
    limit = recipe.rank or max(min(m, p) // updates.n, 1)
    whole = recipe.method is not MergeMethod.TSV
    parts = [_thin(member.double().numpy(), None if whole else limit) for member in held]
    merged = merged_factors(recipe, Factors(tuple(parts), (m, p)), updates.key.name)
    update = torch.from_numpy(merged.up @ merged.down).to(held.dtype)
    for piece in updates.pieces():
        sums.add(piece.updates, update)
        yield update * recipe.scale if piece.base is None else torch.add(piece.base, update, alpha=recipe.scale)


def _thin(matrix: np.ndarray, rank: int | None) -> Thin:
    """A matrix as balanced factors of at most `rank`."""
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    kept = int((sizes > 1e-8 * max(float(sizes.max(initial=0.0)), 1e-300)).sum())
    kept = kept if rank is None else min(kept, rank)
    root = np.sqrt(sizes[:kept])
    return Thin(left[:, :kept] * root, root[:, None] * right[:kept])


def _height(values: Tensor) -> int:
    return max(1, (1 << 18) // max(values.shape[0] * values.shape[2], 1))


@contextmanager
def open_updates(
    collection: Collection, members: Sequence[int], key: LayerKey, *, budget: int
) -> Iterator[TensorUpdates]:
    """The updates of one layer of the chosen members, about the base where it has the layer."""
    refs = [collection.refs[row] for row in members]
    with_base = collection.base is not None and key.name in collection.base_layers
    if with_base and collection.base is not None:
        refs.append(collection.base)
    with open_models(refs, key) as sources:
        yield TensorUpdates(sources, key, with_base=with_base, budget=budget)
