"""How many numbers a shared representation stores: every count an integer, nothing estimated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.storage import Storage

# One k for all layers, one for each in order, or one for each by name.
Kept = int | Sequence[int] | Mapping[str, int]


def storage(
    collection: Collection,
    layers: Iterable[str] | None = None,
    *,
    kept: Kept,
    axis: Axis | str,
    mean: bool = True,
    members: int | None = None,
    other: int = 0,
    stored: Mapping[str, int] | None = None,
) -> Storage:
    """The stored numbers of a collection whose `layers` (None: all) are shared along one axis at `kept` directions.

    For a layer `m x p` of `n` models, without the mean: `models` stores `k d + n k`, `in` stores `k p + n k m`,
    `out` stores `k m + n k p`; `mean` adds `d` once. `members` is n when not all models are stored. `other` counts
    the numbers of all these models in tensors that are not layers of the collection (`other_numbers` reads it from the
    headers); its layers that are not named here are counted from their shapes. `stored` says how many numbers the
    models store for a layer that is kept as factors (`passes.thin_sizes`): with these, not with `n d`, sharing is
    compared.

    Raises:
        LayerError: a layer the collection does not have, or not one k for each layer.
        NotEnoughModels: no models.
    """
    n, named = _models(collection, members), _layers(collection, layers)
    axis, notes = Axis(axis), []
    ks = []
    for layer, k in zip(named, _each(kept, named), strict=True):
        ks.append(min(k, ceiling(layer, n=n, axis=axis, mean=mean)))
        if ks[-1] < k:
            notes.append(f"{layer.short}: {k} directions were asked for, {n} models have at most {ks[-1]}")
    return Storage(
        axis=axis,
        n=n,
        layers=tuple(layer.name for layer in named),
        kept=tuple(ks),
        kept_in=(),
        basis=tuple(k * _length(layer, axis) for layer, k in zip(named, ks, strict=True)),
        mean=tuple(layer.entries if mean else 0 for layer in named),
        coefficients=tuple(n * k * (layer.entries // _length(layer, axis)) for layer, k in zip(named, ks, strict=True)),
        dense=_without_sharing(named, n, stored),
        untouched=_untouched(collection, named, n, other, stored),
        factors=any(layer.name in (stored or {}) for layer in named),
        notes=tuple(notes),
    )


def two_sided(
    collection: Collection,
    layers: Iterable[str] | None = None,
    *,
    kept_out: Kept,
    kept_in: Kept,
    mean: bool = True,
    members: int | None = None,
    other: int = 0,
    stored: Mapping[str, int] | None = None,
) -> Storage:
    """The stored numbers with a basis on both sides: `k_o m + k_i p + n k_o k_i` a layer, and the mean's `d` once.

    Raises:
        LayerError, NotEnoughModels: as for `storage`.
    """
    n, named = _models(collection, members), _layers(collection, layers)
    outs = [min(k, layer.shape[0]) for layer, k in zip(named, _each(kept_out, named), strict=True)]
    ins = [min(k, layer.shape[1]) for layer, k in zip(named, _each(kept_in, named), strict=True)]
    triples = list(zip(named, outs, ins, strict=True))
    return Storage(
        axis=None,
        n=n,
        layers=tuple(layer.name for layer in named),
        kept=tuple(outs),
        kept_in=tuple(ins),
        basis=tuple(out * layer.shape[0] + into * layer.shape[1] for layer, out, into in triples),
        mean=tuple(layer.entries if mean else 0 for layer in named),
        coefficients=tuple(n * out * into for _, out, into in triples),
        dense=_without_sharing(named, n, stored),
        untouched=_untouched(collection, named, n, other, stored),
        factors=any(layer.name in (stored or {}) for layer in named),
    )


def ceiling(layer: LayerKey, *, n: int, axis: Axis, mean: bool = True) -> int:
    """The most directions `n` models can have on an axis: free points, and never more than the space has."""
    free = n - 1 if mean else n
    if axis is Axis.MODELS:
        return min(free, layer.entries)
    length = _length(layer, axis)
    return min(length, free * (layer.entries // length))


def equal_rank(layer: LayerKey, *, n: int, k: int, axis: Axis) -> int:
    """The rank at which a model's own truncated SVD stores as many numbers as its part of the shared representation.

    A model's part is its coefficients and an `n`-th of the basis; the mean is kept by both. Rank r stores `r (m + p)`;
    from `m p` numbers on the matrix itself is stored, so that the rank is full.
    """
    length = _length(layer, axis)
    # Times n, so that all stays whole numbers.
    numbers = k * length + n * k * (layer.entries // length)
    if numbers >= n * layer.entries:
        return min(layer.shape)
    return min(numbers // (n * sum(layer.shape)), min(layer.shape))


def _length(layer: LayerKey, axis: Axis) -> int:
    """How long one direction is."""
    return {Axis.MODELS: layer.entries, Axis.IN: layer.shape[1], Axis.OUT: layer.shape[0]}[axis]


def _models(collection: Collection, members: int | None) -> int:
    n = len(collection) if members is None else members
    if n < 1:
        raise NotEnoughModels(f"{collection.name}: storage is counted for at least one model, none is chosen")
    return n


def _layers(collection: Collection, layers: Iterable[str] | None) -> tuple[LayerKey, ...]:
    if layers is None:
        return collection.layers
    names = list(layers)
    unknown = [name for name in names if name not in collection.by_name]
    if unknown:
        raise LayerError(f"{collection.name} has no layer {', '.join(unknown)}; it has {len(collection.layers)} others")
    return tuple(collection.by_name[name] for name in names)


def _each(kept: Kept, layers: Sequence[LayerKey]) -> tuple[int, ...]:
    """One k for each layer."""
    if isinstance(kept, int):
        return (kept,) * len(layers)
    if isinstance(kept, Mapping):
        missing = [layer.name for layer in layers if layer.name not in kept]
        if missing:
            raise LayerError(f"A number of directions is needed for each layer; none is given for {', '.join(missing)}")
        return tuple(kept[layer.name] for layer in layers)
    if len(kept) != len(layers):
        raise LayerError(
            f"One number of directions for each of {len(layers)} layers was expected, {len(kept)} were given"
        )
    return tuple(kept)


def _untouched(
    collection: Collection, shared: Sequence[LayerKey], n: int, other: int, stored: Mapping[str, int] | None
) -> int:
    names = {layer.name for layer in shared}
    rest = [layer for layer in collection.layers if layer.name not in names]
    return other + sum(_without_sharing(rest, n, stored))


def _without_sharing(layers: Sequence[LayerKey], n: int, stored: Mapping[str, int] | None) -> tuple[int, ...]:
    return tuple((stored or {}).get(layer.name, n * layer.entries) for layer in layers)
