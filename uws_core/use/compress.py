"""Compress: one basis a layer for many models, measured against what the same bytes buy without sharing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uws_core import run
from uws_core.analysis import size_budget
from uws_core.errors import BudgetError, CollectionError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.cost import bytes_from
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.storage import Compression, LayerPlan, Method, Rival
from uws_core.passes.open_models import is_low_rank
from uws_core.sources.opening import open_source
from uws_core.use import fitting
from uws_core.use.beside import portable
from uws_core.use.fitting import LayerFit
from uws_core.use.folder_writer import write_folder

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

    def write(self, folder: str | Path, *, report: Report | None = None) -> Path:
        """Writes the compressed collection and returns its folder, which appears only when complete.

        Layer by layer, one model's core in memory at a time; the same models give the same bytes. A killed or stopped
        writer leaves `.NAME.part`, from which a second call goes on.

        Raises:
            ExportError: the folder exists, is being written by another process, or the disk is full or read-only.
            SourceError: a model cannot be read, or changed.
        """
        return write_folder(self, Path(folder).expanduser(), report=report or _silent)


def compress(  # noqa: PLR0913 - the public door
    collection: Collection,
    *,
    budget: int | str | None = None,
    error: float | None = None,
    kept: int | None = None,
    method: Method | str = "auto",
    layers: Sequence[LayerKey | str] | None = None,
    members: Sequence[int] | None = None,
    about: str = "mean",
    dtype: str = "float32",
    seed: int = 0,
    report: Report | None = None,
) -> CompressionDraft:
    """Returns what a shared basis makes of the models: bytes, each model's error, and its rivals at equal bytes.

    Give one of `budget` (bytes of the whole folder, such as "40MB"), `error` (the worst model's relative error) or
    `kept` (directions a side in every layer). `method` is two-sided or diagonal for adapters, and in, out or two-sided
    for whole weights; auto takes two-sided and in. `about` is the centre of whole weights: mean or base. Nothing is
    written.

    Raises:
        BudgetError: the budget is below one direction a layer.
        NotEnoughModels: fewer than two models.
        LayerError: an unknown layer, mixed whole weights and updates, or weights that are NaN.
    """
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
    say = report or _silent
    untouched = _untouched_bytes(collection, rows, keys)
    with_mean = not low_rank and about == "mean"
    if kept is not None:
        plans = tuple(size_budget.plan(key, chosen, min(kept, max(key.shape)), mean=with_mean) for key in keys)
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
        empty = np.zeros((0, 0))
        fits.append(replace(fit, basis=replace(fit.basis, left=empty, right=empty, cores=empty)))
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
        worst = float(_relative(fits).max())
        if worst <= error:
            return plans, fits
        aim *= 0.98 * error / worst
    raise BudgetError(f"No number of directions keeps every model within {error:.3g}; the worst was at {worst:.3g}")


def _relative(fits: Sequence[LayerFit]) -> Floats:
    """Relative errors (n,) over all layers together."""
    return _share(_total(fit.basis.errors2 for fit in fits), fits)


def _share(errors2: Floats, fits: Sequence[LayerFit]) -> Floats:
    norms2 = _total(fit.basis.norms2 for fit in fits)
    return np.asarray(np.sqrt(np.divide(errors2, norms2, out=np.zeros_like(norms2), where=norms2 > 0)))


def _total(layers: Iterable[Floats]) -> Floats:
    return np.asarray(np.stack(list(layers)).sum(axis=0))


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
        errors=_relative(fits),
        layer_errors=np.stack([_share(fit.basis.errors2, [fit]) for fit in fits]),
        bytes=shared + n * each + untouched,
        original_bytes=original_bytes(collection, rows, [plan.layer.name for plan in plans]) + untouched,
        untouched_bytes=untouched,
        bytes_per_member=each + untouched // n,
        rivals=_rivals(fits, numbers=(shared + n * each) // item, item=item),
        collection=collection,
        members=rows,
        about=about,
        dtype=dtype,
        seed=seed,
        low_rank=is_low_rank(collection, plans[0].layer),
    )


def _rivals(fits: Sequence[LayerFit], *, numbers: int, item: int) -> tuple[Rival, ...]:
    """What the same count of numbers buys without sharing."""
    n = fits[0].basis.norms2.size
    mean_numbers = sum(fit.plan.layer.entries for fit in fits)
    return (
        _own_svd(fits, numbers, item),
        Rival("random basis", numbers * item, _share(_total(fit.random_errors2 for fit in fits), fits)),
        Rival("mean only", mean_numbers * item, _share(_total(fit.mean_errors2 for fit in fits), fits)),
        _rounding(fits, numbers * item, n),
    )


def _own_svd(fits: Sequence[LayerFit], numbers: int, item: int) -> Rival:
    """Each model's own truncated SVD: of all layers and models the singular values with most energy a number first."""
    norms2 = np.maximum(_total(fit.basis.norms2 for fit in fits), 1e-300)
    centers = sum(fit.plan.layer.entries for fit in fits if fit.center_stored)
    energy = np.concatenate([(fit.own_energy / norms2[:, None]).ravel() for fit in fits])
    model = np.concatenate([np.repeat(np.arange(norms2.size), fit.own_energy.shape[1]) for fit in fits])
    price = np.concatenate([np.full(fit.own_energy.size, sum(fit.plan.layer.shape)) for fit in fits])
    order = np.argsort(-energy / price, kind="stable")
    taken = order[np.cumsum(price[order]) <= numbers - centers]
    kept = np.bincount(model[taken], weights=energy[taken], minlength=norms2.size)
    errors = np.sqrt(np.clip(1 - kept, 0.0, None))
    return Rival("own SVD", int(price[taken].sum() + centers) * item, errors)


def _rounding(fits: Sequence[LayerFit], available: int, n: int) -> Rival:
    """Every entry (of the factors, for adapters) rounded to the most bits that fit; a scale a row is counted."""
    sizes: dict[int, int] = {}
    for bits in fits[0].bits_errors2:
        sizes[bits] = sum(fit.rounded_bytes(bits, n) for fit in fits)
    fitting_bits = [bits for bits, size in sizes.items() if size <= available]
    if not fitting_bits:
        least = min(sizes)
        return Rival(
            "rounding", sizes[least], np.full(n, np.nan), f"one bit an entry already takes {sizes[least]} bytes"
        )
    bits = max(fitting_bits)
    errors = _share(_total(fit.bits_errors2[bits] for fit in fits), fits)
    return Rival("rounding", sizes[bits], errors, f"{bits} bits an entry")


def _untouched_bytes(collection: Collection, rows: Sequence[int], keys: Sequence[LayerKey]) -> int:
    names = [key.name for key in keys]
    return sum(portable(collection.refs[row]).untouched_bytes(names) for row in rows)


def original_bytes(collection: Collection, rows: Sequence[int], layers: Sequence[str]) -> int:
    """Returns the bytes that these models store for these layers now; reads headers only."""
    return sum(open_source(collection.refs[row]).stored_bytes(name) for row in rows for name in layers)


def _silent(fraction: float, message: str) -> None:
    """The report of a caller who wants none."""
