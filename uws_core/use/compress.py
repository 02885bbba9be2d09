"""Compress: one basis a layer for many models, measured against what the same bytes buy without sharing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from uws_core import run
from uws_core.analysis import size_budget
from uws_core.errors import BudgetError, CollectionError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.cost import bytes_from
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.storage import Compression, LayerPlan, Method, SizePoint
from uws_core.passes.open_models import is_low_rank
from uws_core.sources.opening import open_source
from uws_core.use import fitting
from uws_core.use.beside import portable
from uws_core.use.fitting import LayerFit, held_out_errors2
from uws_core.use.folder_writer import write_folder
from uws_core.use.rivals import FACTORS, relative, rivals, share, size_curve, total

Report = Callable[[float, str], None]
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class CompressionDraft(Compression):
    """A measured compression that can be written; see `Compression` for the figures."""

    collection: Collection
    members: tuple[int, ...]
    about: str
    dtype: str
    seed: int
    # Whether the models are adapters, whose updates stay in thin form.
    low_rank: bool
    # What rivals need, layer by layer.
    fits: tuple[LayerFit, ...] = field(repr=False)

    @property
    def item_bytes(self) -> int:
        """The bytes of a stored number."""
        return ITEM_BYTES[self.dtype]

    def write(self, folder: str | Path, *, report: Report | None = None) -> Path:
        """Writes the compressed collection and returns its folder, which appears only when complete.

        Layer by layer, one model's core in memory at a time; the same models give the same bytes. A killed or stopped
        writer leaves `.NAME.part`, from which a second call goes on.

        Raises:
            ExportError: the folder exists, is being written by another process, or the disk is full or read-only.
            SourceError: a model cannot be read, or changed.
        """
        return write_folder(self, Path(folder).expanduser(), report=report or _silent)

    def curve(self, *, report: Report | None = None) -> tuple[SizePoint, ...]:
        """Returns error against bytes: this plan with an eighth to eight times its directions, and every rival.

        Price: adapters are fitted at each size, whole weights read once more.

        Raises:
            SourceError: a model cannot be read, or changed.
        """
        return size_curve(self, report or _silent)

    def held_out(self, groups: Sequence[Hashable], *, report: Report | None = None) -> Floats:
        """Returns relative errors (n,) of each model in the basis that is made without its group.

        `groups` has a label for each chosen model. Price: a fit for each group; whole weights are read three times
        for each.

        Raises:
            NotEnoughModels: another number of labels than models, or fewer than two models outside a group.
        """
        sizes = Counter(groups)
        if len(groups) != len(self.members) or len(groups) - max(sizes.values()) < 2:
            raise NotEnoughModels(
                f"{len(self.members)} models and {len(groups)} labels; each group must leave two models outside it"
            )
        say, errors2, norms2 = report or _silent, np.zeros(len(groups)), np.zeros(len(groups))
        for number, plan in enumerate(self.layers):
            found = held_out_errors2(self.collection, plan, self.members, groups, about=self.about, seed=self.seed)
            errors2, norms2 = errors2 + found[0], norms2 + found[1]
            say((number + 1) / len(self.layers), f"{plan.layer.short}: {len(sizes)} groups held out")
        return relative(errors2, norms2)


class FormKeywords(TypedDict, total=False):
    """The form of what `compress` makes; see there."""

    about: str
    dtype: str
    seed: int
    report: Report | None


@dataclass(frozen=True, slots=True)
class _Form:
    """The options with their defaults filled in."""

    about: str = "mean"
    dtype: str = "float32"
    seed: int = 0
    report: Report | None = None


def compress(
    collection: Collection,
    *,
    budget: int | str | None = None,
    error: float | None = None,
    kept: int | None = None,
    method: Method | str = "auto",
    layers: Sequence[LayerKey | str] | None = None,
    members: Sequence[int] | None = None,
    **keywords: Unpack[FormKeywords],
) -> CompressionDraft:
    """Returns what a shared basis makes of the models: bytes, each model's error, and its rivals at equal bytes.

    Give one of `budget` (bytes of the whole folder, such as "40MB"), `error` (the worst model's relative error) or
    `kept` (directions a side in every layer). `method` is two-sided or diagonal for adapters, and in, out or
    two-sided for whole weights; auto takes two-sided and in. Further keywords: `about`, the centre of whole weights
    (mean or base), `dtype`, `seed` and `report`. Nothing is written.

    Raises:
        BudgetError: the budget is below one direction a layer.
        NotEnoughModels: fewer than two models.
        LayerError: an unknown layer, mixed whole weights and updates, or weights that are NaN.
    """
    form = _Form(**keywords)
    about, dtype, seed, say = form.about, form.dtype, form.seed, form.report or _silent
    rows = tuple(range(len(collection))) if members is None else tuple(int(row) for row in members)
    if len(rows) < 2:
        raise NotEnoughModels(f"A shared basis needs at least two models; {len(rows)} chosen")
    if sum(choice is not None for choice in (budget, error, kept)) != 1:
        raise BudgetError("Give exactly one of budget (bytes), error (0 to 1) and kept (directions)")
    if dtype not in ITEM_BYTES:
        raise CollectionError(f"dtype is one of {', '.join(ITEM_BYTES)}; found {dtype!r}")
    keys = run.chosen_layers(collection, layers)
    updates = tuple(key for key in keys if is_low_rank(collection, key))
    # Weights that an adapter trained whole travel untouched.
    low_rank, keys = bool(updates), updates or keys
    chosen = Method(("two-sided" if low_rank else "in") if method == "auto" else method)
    untouched = untouched_bytes(collection, rows, keys)
    # The centre of whole weights is stored, also where it is the base: the folder needs no other files.
    with_mean = not low_rank
    if kept is not None:
        ranks = [max(portable(collection.refs[row]).rank(key.name) for row in rows) if low_rank else 0 for key in keys]
        plans = tuple(
            size_budget.plan(key, chosen, min(kept, max(key.shape)), mean=with_mean, rank=rank)
            for key, rank in zip(keys, ranks, strict=True)
        )
        fits = _fits(collection, plans, rows, about, seed, say)
    else:
        curves = [fitting.error_curve(collection, key, rows, chosen, low_rank=low_rank) for key in keys]
        if budget is not None:
            amount = bytes_from(budget) if isinstance(budget, str) else budget
            numbers = (amount - untouched) // ITEM_BYTES[dtype]
            if numbers <= 0:
                raise BudgetError(f"What travels untouched takes {untouched} bytes alone; the budget is {amount}")
            plans = size_budget.spend(curves, chosen, budget=numbers, mean=with_mean)
            fits = _fits(collection, plans, rows, about, seed, say)
        else:
            plans, fits = _until_error(collection, curves, chosen, rows, (about, seed, error or 0.0, with_mean), say)
    return _measured(collection, rows, fits, about=about, dtype=dtype, seed=seed, untouched=untouched)


def fit_layer(collection: Collection, plan: LayerPlan, members: Sequence[int], *, about: str, seed: int) -> LayerFit:
    """Returns one layer's fit: adapters in thin form, whole weights about their centre."""
    if is_low_rank(collection, plan.layer):
        return fitting.fit_updates(collection, plan, members, seed=seed)
    return fitting.fit_weights(collection, plan, members, about=about, seed=seed)


def _fits(
    collection: Collection, plans: Sequence[LayerPlan], rows: tuple[int, ...], about: str, seed: int, report: Report
) -> list[LayerFit]:
    fits = []
    for index, plan in enumerate(plans):
        fit = fit_layer(collection, plan, rows, about=about, seed=seed)
        # The figures need errors only; cores of a large collection are more than memory holds.
        empty, n = np.zeros((0, 0)), len(rows)
        numbers = plan.shared_numbers + n * plan.member_numbers
        widest = 1 + int(2 * max(FACTORS) * numbers / (n * sum(plan.layer.shape)))
        fits.append(
            replace(
                fit,
                basis=replace(fit.basis, left=empty, right=empty, cores=empty),
                own_energy=np.ascontiguousarray(fit.own_energy[:, :widest], dtype=np.float32),
            )
        )
        report((index + 1) / len(plans), f"{plan.layer.short}: {plan.k} directions")
    return fits


def _until_error(
    collection: Collection,
    curves: Sequence[size_budget.Curve],
    method: Method,
    rows: tuple[int, ...],
    options: tuple[str, int, float, bool],
    report: Report,
) -> tuple[tuple[LayerPlan, ...], list[LayerFit]]:
    """Plans and fits whose worst model stays within the error: the expected error is lowered until it does."""
    about, seed, error, with_mean = options
    aim = error
    for _ in range(8):
        plans = size_budget.reach(curves, method, error=aim, mean=with_mean)
        fits = _fits(collection, plans, rows, about, seed, report)
        worst = float(share(total(fit.basis.errors2 for fit in fits), fits).max())
        if worst <= error:
            return plans, fits
        aim *= 0.98 * error / worst
    raise BudgetError(f"No number of directions keeps every model within {error:.3g}; the worst was at {worst:.3g}")


def _measured(
    collection: Collection,
    rows: tuple[int, ...],
    fits: Sequence[LayerFit],
    *,
    about: str,
    dtype: str,
    seed: int,
    untouched: int,
) -> CompressionDraft:
    plans, item, n = tuple(fit.plan for fit in fits), ITEM_BYTES[dtype], len(rows)
    shared = sum(plan.shared_numbers for plan in plans) * item
    each = sum(plan.member_numbers for plan in plans) * item
    return CompressionDraft(
        labels=tuple(collection.labels[row] for row in rows),
        layers=plans,
        errors=share(total(fit.basis.errors2 for fit in fits), fits),
        layer_errors=np.stack([share(fit.basis.errors2, [fit]) for fit in fits]),
        bytes=shared + n * each + untouched,
        original_bytes=original_bytes(collection, rows, [plan.layer.name for plan in plans]) + untouched,
        untouched_bytes=untouched,
        bytes_per_member=each + untouched // n,
        rivals=rivals(fits, numbers=(shared + n * each) // item, item=item),
        collection=collection,
        members=rows,
        about=about,
        dtype=dtype,
        seed=seed,
        low_rank=is_low_rank(collection, plans[0].layer),
        fits=tuple(fits),
    )


def untouched_bytes(collection: Collection, rows: Sequence[int], keys: Sequence[LayerKey]) -> int:
    """Returns the bytes that these models store beside these layers, which travel as they are; reads headers only."""
    names = [key.name for key in keys]
    return sum(portable(collection.refs[row]).untouched_bytes(names) for row in rows)


def original_bytes(collection: Collection, rows: Sequence[int], layers: Sequence[str]) -> int:
    """Returns the bytes that these models store for these layers now; reads headers only."""
    return sum(open_source(collection.refs[row]).stored_bytes(name) for row in rows for name in layers)


def _silent(fraction: float, message: str) -> None:
    """The report of a caller who wants none."""
