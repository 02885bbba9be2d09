"""How many numbers a shared representation stores: every count an integer, nothing estimated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.gram import Axis
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.storage import Storage, StoredSizes

# One k for all layers, one for each in order, or one for each by name.
Kept = int | Sequence[int] | Mapping[str, int]
Layers = Iterable[str | LayerKey]


def storage(
    collection: Collection,
    layers: Layers | None = None,
    *,
    kept: Kept,
    axis: Axis | str,
    mean: bool = True,
    members: int | None = None,
    stored: StoredSizes | None = None,
) -> Storage:
    """The stored numbers of a collection whose `layers` (None: all) are shared along one axis at `kept` directions.

    For a layer `m x p` of `n` models, without the mean: `models` stores `k d + n k`, `in` stores `k p + n k m`,
    `out` stores `k m + n k p`; `mean` adds `d` once. `members` is n when not all models are stored. `stored` says what
    the files hold (`passes.stored_sizes`); with it, not with `n d`, sharing is compared, and adapters are shared in
    their best thin form: on a side a model of rank r stores `min(k m, r (m + k))`, and on `models` the basis is
    combinations of the models' own factors where those are fewer numbers than k dense directions and the mean. Other
    layers of the collection are counted as they are stored.

    Raises:
        LayerError: a layer the collection does not have, or not one k for each layer.
        NotEnoughModels: no models.
    """
    n, named = _models(collection, members), _layers(collection, layers)
    axis, sizes, notes = Axis(axis), stored or StoredSizes(), []
    ks, bases, means, coefficients = [], [], [], []
    for layer, k in zip(named, _each(kept, named), strict=True):
        ks.append(min(k, ceiling(layer, n=n, axis=axis, mean=mean)))
        if ks[-1] < k:
            notes.append(f"{layer.short}: {k} directions were asked for, {n} models have at most {ks[-1]}")
        basis, center, own = _one_axis(layer, ks[-1], axis=axis, mean=mean, ranks=sizes.ranks.get(layer.name, (0,) * n))
        bases.append(basis)
        means.append(center)
        coefficients.append(own)
    return Storage(
        axis=axis,
        n=n,
        layers=tuple(layer.name for layer in named),
        kept=tuple(ks),
        kept_in=(),
        basis=tuple(bases),
        mean=tuple(means),
        coefficients=tuple(coefficients),
        notes=tuple(notes),
        **_without_sharing(collection, named, n, sizes),
    )


def two_sided(
    collection: Collection,
    layers: Layers | None = None,
    *,
    kept_out: Kept,
    kept_in: Kept,
    mean: bool = True,
    members: int | None = None,
    stored: StoredSizes | None = None,
) -> Storage:
    """The stored numbers with a basis on both sides: `k_o m + k_i p + n k_o k_i` a layer, and the mean's `d` once.

    An adapter of rank r keeps its core in thin form, `r (k_o + k_i)`, where that is smaller than `k_o k_i`.

    Raises:
        LayerError, NotEnoughModels: as for `storage`.

    Source: Compress then Serve, arXiv 2407.00066 (JD-Full); the thin cores are ours.
    """
    n, named, sizes = _models(collection, members), _layers(collection, layers), stored or StoredSizes()
    outs = [min(k, layer.shape[0]) for layer, k in zip(named, _each(kept_out, named), strict=True)]
    ins = [min(k, layer.shape[1]) for layer, k in zip(named, _each(kept_in, named), strict=True)]
    triples = list(zip(named, outs, ins, strict=True))
    ranks = [sizes.ranks.get(layer.name, (0,) * n) for layer in named]
    return Storage(
        axis=None,
        n=n,
        layers=tuple(layer.name for layer in named),
        kept=tuple(outs),
        kept_in=tuple(ins),
        basis=tuple(out * layer.shape[0] + into * layer.shape[1] for layer, out, into in triples),
        mean=tuple(_mean(layer, own) if mean else 0 for layer, own in zip(named, ranks, strict=True)),
        coefficients=tuple(
            sum(min(out * into, rank * (out + into)) if rank else out * into for rank in own)
            for (_, out, into), own in zip(triples, ranks, strict=True)
        ),
        **_without_sharing(collection, named, n, sizes),
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
    """The count of numbers in one direction."""
    return {Axis.MODELS: layer.entries, Axis.IN: layer.shape[1], Axis.OUT: layer.shape[0]}[axis]


def _models(collection: Collection, members: int | None) -> int:
    n = len(collection) if members is None else members
    if n < 1:
        raise NotEnoughModels(f"{collection.name}: storage is counted for at least one model, none is chosen")
    return n


def _layers(collection: Collection, layers: Layers | None) -> tuple[LayerKey, ...]:
    """The keys of layers given by name or key; None is all of them, where a factor view is a part of its layer."""
    if layers is None:
        return tuple(layer for layer in collection.layers if not _is_view(collection, layer))
    return tuple(collection.layer(layer) for layer in layers)


def _is_view(collection: Collection, layer: LayerKey) -> bool:
    """Whether a layer is one factor of another layer of the collection."""
    return bool(layer.factor) and layer.name[:-2] in collection.by_name


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


def _one_axis(layer: LayerKey, k: int, *, axis: Axis, mean: bool, ranks: Sequence[int]) -> tuple[int, int, int]:
    """The numbers of basis, mean and all coefficients at k directions of one axis."""
    m, p = layer.shape
    n, center = len(ranks), _mean(layer, ranks) if mean else 0
    if axis is Axis.MODELS:
        dense = k * layer.entries, layer.entries if mean else 0
        if not any(ranks):
            return *dense, n * k
        factors = sum(rank * (m + p) if rank else layer.entries for rank in ranks)
        # Combinations of the models' own factors; the mean is one more of them, and its weights are 1/n.
        basis, center = (factors, 0) if factors < sum(dense) else dense
        return basis, center, n * k
    length = _length(layer, axis)
    across = layer.entries // length
    own = sum(min(k * across, rank * (across + k)) if rank else k * across for rank in ranks)
    return k * length, center, own


def _mean(layer: LayerKey, ranks: Sequence[int]) -> int:
    """The numbers of the mean: `m p`, or as many as the factors of all adapters together where these are fewer."""
    return layer.entries if not all(ranks) else min(layer.entries, sum(ranks) * sum(layer.shape))


class _Unshared(TypedDict):
    dense: tuple[int, ...]
    dense_bytes: tuple[int, ...]
    untouched: int
    factors: bool


def _without_sharing(collection: Collection, shared: Sequence[LayerKey], n: int, sizes: StoredSizes) -> _Unshared:
    """The fields of `Storage` that count what the files hold."""
    names = {layer.name for layer in shared}
    rest = [layer for layer in collection.layers if layer.name not in names and not _is_view(collection, layer)]
    known = all(layer.name in sizes.bytes for layer in shared)
    return {
        "dense": tuple(sizes.numbers(layer, n) for layer in shared),
        "dense_bytes": tuple(sizes.bytes[layer.name] for layer in shared) if known else (),
        "untouched": sizes.other + sum(sizes.numbers(layer, n) for layer in rest),
        "factors": any(layer.name in sizes.ranks for layer in shared),
    }
