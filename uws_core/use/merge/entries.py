"""Merges that look at every entry: TIES, DARE, DELLA, Breadcrumbs, SCE, in the reading of their papers, mergekit, PEFT.

Every rule is made ready from passes over the updates, which may be too large for memory, and then merges them in the
order of their rows. Sources: TIES arXiv 2306.01708, DARE 2311.03099, DELLA 2406.11617, Breadcrumbs 2312.06795, SCE
2408.07990; conventions by mergekit 0.1.5 (`sparsify.py`, `generalized_task_arithmetic.py`, `sce.py`) and PEFT 0.21.2
(`merge_utils.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from uws_core.nouns.merging import Convention, MergeMethod, MergeRecipe
from uws_core.use.merge.order import NOTHING, Cut, Keeper, Selection, cuts_of

# Random numbers have 16 bits: a density is met to 1 in 131,072.
_STEPS = 1 << 16
# Entries that are worked on at once: what the cache holds of eight models.
_CHUNK = 1 << 18
Rule = Callable[[Tensor], Tensor]


class Updates(Protocol):
    """The updates of `n` members in one layer of `shape`, as often as asked, in slabs (n, rows, p) in row order.

    Slabs are float32, or float64 where that is what is stored, and must not be changed.
    """

    @property
    def n(self) -> int:
        """The number of members."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        ...

    @property
    def in_memory(self) -> Tensor | None:
        """All of the updates (n, m, p), where they are in memory."""
        ...

    def slabs(self) -> Iterator[Tensor]:
        """The updates in slabs of rows."""
        ...


@dataclass(frozen=True)
class HeldUpdates:
    """Updates (n, m, p) that are in memory."""

    values: Tensor

    @property
    def n(self) -> int:
        """The number of members."""
        return self.values.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def in_memory(self) -> Tensor | None:
        """All of them."""
        return self.values

    def slabs(self) -> Iterator[Tensor]:
        """All in one slab."""
        yield self.values


def merged_entries(recipe: MergeRecipe, updates: Updates, name: str) -> Tensor:
    """Returns `method(updates)` (m, p) of updates that fit in memory; scale 1."""
    rule = entry_rule(recipe, updates, name)
    parts = [rule(chunk) for slab in updates.slabs() for chunk in chunks(slab)]
    return torch.cat(parts)


def entry_rule(recipe: MergeRecipe, updates: Updates, name: str, *, cuts: Sequence[Cut] | None = None) -> Rule:
    """Returns what merges the next rows (n, rows, p) of the updates into (rows, p), called in the order of rows.

    `name` is the tensor's, which its random numbers depend on. `cuts` (n) are those of TIES in the reading of its
    paper, where an update is trimmed over all its tensors together; without them each tensor is trimmed by itself.
    """
    weights, method = recipe.weight_of(updates.n), recipe.method
    if method in (MergeMethod.MEAN, MergeMethod.LINEAR, MergeMethod.TASK_ARITHMETIC):
        factors = {
            MergeMethod.MEAN: np.full(updates.n, 1 / updates.n),
            MergeMethod.LINEAR: weights / weights.sum(),
            MergeMethod.TASK_ARITHMETIC: weights,
        }[method]
        return lambda values: torch.tensordot(torch.as_tensor(factors, dtype=values.dtype), values, dims=1)
    if method is MergeMethod.SCE:
        return _sce(recipe, updates)
    if method is MergeMethod.TIES:
        mask = _trimmed(cuts or trim_cuts(recipe, updates))
        return lambda values: consensus(mask(values), weights, recipe.convention)
    if method is MergeMethod.BREADCRUMBS:
        window = _window(recipe, updates)
        return lambda values: _weighted_sum(window(values), weights)
    drop = _dropped(recipe, updates, name)
    if method is MergeMethod.DARE:
        return lambda values: _weighted_sum(drop(values), weights)
    # mergekit's DARE-TIES sums what agrees, its DELLA averages it; in the papers both average.
    averaged = method is MergeMethod.DELLA or recipe.convention is not Convention.MERGEKIT
    return lambda values: consensus(drop(values), weights, recipe.convention, averaged=averaged)


def consensus(values: Tensor, weights: np.ndarray, convention: Convention, *, averaged: bool = True) -> Tensor:
    """Returns the mean (or sum) of the entries that have the elected sign; zeros have none.

    mergekit: weighted entries vote, divided by the sum of the weights that agree. PEFT: unweighted entries vote,
    divided by their count. Paper: unweighted entries vote, weighted mean. A vote of zero elects plus.
    """
    shape = (-1,) + (1,) * (values.dim() - 1)
    share = torch.as_tensor(weights, dtype=values.dtype)
    ones = torch.ones_like(share)
    if convention is Convention.MERGEKIT:
        voters, factors = values * share.view(shape), ones
        votes = total = voters.sum(0)
    else:
        voters, factors = values, share
        votes, total = values.sum(0), torch.tensordot(share, values, dims=1)
    # The sums over positive entries; those over negative ones are what is left, at three sweeps for both.
    above = torch.tensordot(factors, voters.relu(), dims=1)
    mixed = torch.where(votes >= 0, above, total - above)
    if not averaged:
        return mixed
    counted = ones if convention is Convention.PEFT else share
    signs = voters.sign()
    balance = torch.tensordot(counted, signs, dims=1)
    there = torch.tensordot(counted, signs.abs_(), dims=1)
    divisor = torch.where(votes >= 0, there + balance, there - balance) / 2
    divisor[divisor == 0] = 1
    return torch.div(mixed, divisor)


def trim_cuts(recipe: MergeRecipe, updates: Updates) -> list[Cut]:
    """Returns where each update of one tensor is trimmed to `density` of its entries.

    mergekit keeps one entry at least.
    """
    entries = prod(updates.shape)
    if recipe.density >= 1:
        return [NOTHING] * updates.n
    kept = int(recipe.density * entries)
    if recipe.convention is Convention.MERGEKIT and recipe.density > 0:
        kept = max(1, kept)
    return [cuts[0] for cuts in selected(updates, [[entries - kept]] * updates.n)]


def selected(updates: Updates, dropped: Sequence[Sequence[int]]) -> list[list[Cut]]:
    """Returns the cuts of each update: from memory where it is there, else by two passes."""
    held = updates.in_memory
    if held is not None:
        return cuts_of(held.flatten(1), dropped)
    return selected_over(lambda: updates.slabs(), dropped)


def selected_over(slabs: Callable[[], Iterable[Tensor]], dropped: Sequence[Sequence[int]]) -> list[list[Cut]]:
    """Returns the cuts of streams (n, ...) that `slabs` gives twice, maybe over many tensors."""
    selection = Selection(dropped)
    for values in slabs():
        selection.count(values.float())
    selection.locate()
    for values in slabs():
        selection.collect(values.float())
    return selection.cuts()


def chunk_rows(n: int, p: int) -> int:
    """Returns how many rows of updates (n, rows, p) the cache holds, one at least."""
    return max(1, _CHUNK // max(n * p, 1))


def chunks(values: Tensor) -> Iterator[Tensor]:
    """The rows of updates (n, rows, p) in pieces that the cache holds."""
    height = chunk_rows(values.shape[0], values.shape[2])
    for start in range(0, values.shape[1], height):
        yield values[:, start : start + height]


def _trimmed(cuts: Sequence[Cut]) -> Rule:
    keepers = [Keeper(cut) for cut in cuts]
    if all(cut == NOTHING for cut in cuts):
        return lambda values: values
    return lambda values: torch.stack([keeper.kept(row) for row, keeper in zip(values, keepers, strict=True)])


def _window(recipe: MergeRecipe, updates: Updates) -> Rule:
    """Breadcrumbs: without the `gamma` largest entries, and without as many smallest as leave `density` of all.

    The published method drops a layer's tails; mergekit drops fewer large ones where the density asks for it.
    """
    entries = prod(updates.shape)
    if recipe.density >= 1:
        return lambda values: values
    kept = int(recipe.density * entries)
    low = max(0, entries - kept - int(recipe.gamma * entries))
    both = selected(updates, [[low, low + kept]] * updates.n)
    keepers = [(Keeper(bottom), Keeper(top)) for bottom, top in both]
    return lambda values: torch.stack(
        [bottom.kept(row) - top.kept(row) for row, (bottom, top) in zip(values, keepers, strict=True)]
    )


def _dropped(recipe: MergeRecipe, updates: Updates, name: str) -> Rule:
    """DARE and DELLA: entries dropped at random and the rest scaled up.

    The papers divide an entry by its own probability. mergekit matches the L1 norm of the tensor, which takes a pass.
    """
    if recipe.density >= 1:
        return lambda values: values
    if recipe.density <= 0:
        return torch.zeros_like
    by_rank = recipe.method is MergeMethod.DELLA
    by_norm = recipe.convention is Convention.MERGEKIT
    ratios = torch.ones(updates.n, dtype=torch.float64)
    if by_norm:
        before, after = torch.zeros(2, updates.n, dtype=torch.float64)
        draws = _draws(recipe.seed, name, updates.n)
        for values in updates.slabs():
            for chunk in chunks(values):
                sizes, keep = chunk.abs(), _kept(chunk, recipe, draws, by_rank=by_rank)[0]
                before += sizes.sum((1, 2), dtype=torch.float64)
                after += (sizes * keep).sum((1, 2), dtype=torch.float64)
        ratios = torch.where((before < 1e-7) | (after < 1e-7), 1.0, before / after)
    draws = _draws(recipe.seed, name, updates.n)

    def drop(values: Tensor) -> Tensor:
        keep, chance = _kept(values, recipe, draws, by_rank=by_rank)
        factor = ratios.to(values.dtype).view(-1, 1, 1) if by_norm else 1 / chance
        return values * (keep * factor)

    return drop


def _kept(values: Tensor, recipe: MergeRecipe, draws: Sequence[_Draws], *, by_rank: bool) -> tuple[Tensor, Tensor]:
    """The mask (n, rows, p) of the next entries, and each one's probability."""
    _, rows, p = values.shape
    numbers = torch.stack([draw.rows(rows, p) for draw in draws])
    if not by_rank:
        # At least one step, so that nothing is divided by zero.
        steps = max(round(recipe.density * _STEPS), 1)
        return numbers < steps - _STEPS // 2, torch.full((1, 1, 1), steps / _STEPS, dtype=values.dtype)
    # numpy sorts rows five times as fast as torch does.
    order = np.argsort(values.abs().numpy(), axis=2)
    ranks = torch.empty_like(values)
    ranks.scatter_(2, torch.from_numpy(order), torch.arange(p, dtype=values.dtype).expand(values.shape))
    chance = recipe.density - recipe.epsilon + ranks / max(p - 1, 1) * (2 * recipe.epsilon)
    limit = (chance * _STEPS).round().clamp(min=1)
    return numbers < limit - _STEPS // 2, limit / _STEPS


class _Draws:
    """Uniform 16-bit numbers, shifted to -32768 to 32767, for the rows of one tensor of one member, in order.

    Every row takes whole words of 64 bits, so that the numbers do not depend on how many rows are read at once.
    """

    def __init__(self, seed: int, name: str, member: int) -> None:
        words = np.random.SeedSequence([seed & (2**63 - 1), zlib.crc32(name.encode()), member])
        self._generator = np.random.Generator(np.random.SFC64(words))

    def rows(self, rows: int, p: int) -> Tensor:
        """The numbers (rows, p) of the next rows."""
        words = -(-p // 4)
        numbers = self._generator.integers(0, 2**64, size=rows * words, dtype=np.uint64)
        return torch.from_numpy(numbers.view(np.int16).reshape(rows, 4 * words))[:, :p]


def _draws(seed: int, name: str, n: int) -> list[_Draws]:
    return [_Draws(seed, name, member) for member in range(n)]


def _weighted_sum(values: Tensor, weights: np.ndarray) -> Tensor:
    merged: Tensor = torch.tensordot(torch.as_tensor(weights, dtype=values.dtype), values, dims=1)
    return merged


def _sce(recipe: MergeRecipe, updates: Updates) -> Rule:
    """SCE: the `density` of entries that vary most over members, each member weighted by the energy it has there,
    entries of the minority sign erased.
    """
    keeper = Keeper(NOTHING)
    if recipe.density < 1:
        # Entries that do not vary at all are no candidates.
        entries = prod(updates.shape)
        varying = sum(int(torch.count_nonzero(part)) for part in _variances(updates))
        kept = int(varying * recipe.density)
        if kept == 0:
            return lambda values: torch.zeros_like(values[0])
        cut = selected_over(lambda: _variances(updates), [[entries - kept]])[0][0]
        keeper = Keeper(cut)
        counting = Keeper(cut)
    else:
        counting = Keeper(NOTHING)
    energy = torch.zeros(updates.n, dtype=torch.float64)
    for values in updates.slabs():
        for chunk in chunks(values):
            mask = counting.above(_variance(chunk))
            energy += (chunk * mask).square().sum((1, 2), dtype=torch.float64)
    mean2 = energy / prod(updates.shape)
    # mergekit weights all members alike where their mean squares sum to less than 1e-6, as small updates do.
    least = 1e-6 if recipe.convention is Convention.MERGEKIT else 0.0
    total = float(mean2.sum())
    share = mean2 / total if total > 0 and total >= least else torch.full_like(mean2, 1 / updates.n)

    def merge(values: Tensor) -> Tensor:
        chosen = values * keeper.above(_variance(values))
        plus = chosen.sum(0) >= 0
        agree = torch.where(plus, chosen > 0, chosen < 0).to(values.dtype)
        weights = share.to(values.dtype)
        divisor = torch.tensordot(weights, agree, dims=1).clamp(min=least)
        divisor[divisor == 0] = 1
        merged: Tensor = torch.tensordot(weights, chosen * agree, dims=1) / divisor
        return merged

    return merge


def _variance(values: Tensor) -> Tensor:
    return (values - values.mean(0)).square_().mean(0).float()


def _variances(updates: Updates) -> Iterator[Tensor]:
    """The variance over members of the entries, as a stream of one, chunk by chunk."""
    for values in updates.slabs():
        for chunk in chunks(values):
            yield _variance(chunk)[None]
