"""Products that an earlier collection of adapters has already: models that came since are a border, others dropped.

A store remembers which collections it has Grams of, by the contents of their models. Where most models of a collection
were in an earlier one, only the products of the new models with all are formed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from uws_core.errors import StoreError
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection, LayerKey
from uws_core.passes.block_layout import BlockLayout
from uws_core.store.codec import MATH_VERSION, from_bytes, gram_key
from uws_core.store.results import Store

_KNOWN = f"collections/{MATH_VERSION}"
# So many collections are remembered, the latest first.
_MOST = 64
# With fewer old models the border is most of the work.
_LEAST_SHARE = 0.5
# A scan that was cancelled early has few Grams; so many other collections are asked after it.
_MOST_TRIED = 3


@dataclass(frozen=True, slots=True)
class KnownProducts:
    """Inner products about zero of some `models` (o, o), and those of their blocks (blocks, o, o), in float64."""

    models: tuple[int, ...]
    gram: Floats
    rows: Floats
    columns: Floats


@dataclass(frozen=True, slots=True)
class Ancestor:
    """An earlier collection: the `rows` in its Grams of those models that are `models` of the present one, in order."""

    collection: Collection
    rows: tuple[int, ...]
    models: tuple[int, ...]


def remember(store: Store, collection: Collection) -> None:
    """Notes that the store may have Grams of this collection; without room nothing is noted."""
    entry = (collection.fingerprint, _contents(collection))
    before = _remembered(store)
    known = [one for one in before if one[0] != collection.fingerprint]
    if before[:1] != [entry]:
        with suppress(StoreError):
            store.put(_KNOWN, json.dumps([entry, *known][:_MOST]).encode())


def ancestors(store: Store, collection: Collection) -> tuple[Ancestor, ...]:
    """Earlier collections with at least half as many of these models, those with most first; a few of them."""
    contents = _contents(collection)
    place = {content: row for row, content in enumerate(contents)}
    # Two models of the same content have no place of their own.
    if len(place) != len(contents):
        return ()
    found = []
    for fingerprint, theirs in _remembered(store):
        # Of two equal models of the earlier collection the first counts.
        first = {content: row for row, content in reversed(list(enumerate(theirs))) if content in place}
        if fingerprint != collection.fingerprint and len(first) >= max(2, _LEAST_SHARE * len(contents)):
            rows, models = tuple(first.values()), tuple(place[content] for content in first)
            found.append(Ancestor(replace(collection, fingerprint=fingerprint), rows, models))
    return tuple(sorted(found, key=lambda one: -len(one.rows))[:_MOST_TRIED])


def known_products(
    store: Store, collection: Collection, layer: LayerKey, earlier: Sequence[Ancestor], precision: str
) -> KnownProducts | None:
    """Inner products about zero of models that an earlier collection had, from its stored Gram of this layer.

    None where the store has none, where that left out a model, or where a layer of so many models has other blocks.
    """
    for one in earlier:
        raw = store.get(gram_key(one.collection, layer, precision))
        try:
            gram = None if raw is None else from_bytes(Gram, raw)
        except StoreError:
            continue
        if gram is None or gram.n <= max(one.rows) or not gram.usable.all():
            continue
        layout = BlockLayout.of(layer.shape, len(collection), cells=False)
        if layout != BlockLayout.of(layer.shape, gram.n, cells=False) or layout.kept != (gram.blocks is not None):
            continue
        products = gram.values + gram.to_center[:, None] + gram.to_center[None, :] + gram.center_norm2
        nothing = np.zeros((1, gram.n, gram.n)), np.zeros((0, gram.n, gram.n))
        blocks = nothing if gram.blocks is None else tuple(map(_about_zero, (gram.blocks.rows, gram.blocks.columns)))
        rows = list(one.rows)
        shared, of_rows, of_columns = (values[..., rows, :][..., rows] for values in (products, *blocks))
        return KnownProducts(one.models, shared, of_rows, of_columns)
    return None


def _about_zero(values: Floats) -> Floats:
    """Products (blocks, n, n) about zero from those about the mean, which is the last row (blocks, n + 1, n + 1)."""
    wide = values.astype(np.float64)
    toward, center = wide[:, :-1, -1], wide[:, -1, -1]
    return np.asarray(wide[:, :-1, :-1] + toward[:, :, None] + toward[:, None, :] + center[:, None, None])


def _contents(collection: Collection) -> list[str]:
    return [f"{ref.commit}#{ref.part}" for ref in collection.refs]


def _remembered(store: Store) -> list[tuple[str, list[str]]]:
    raw = store.get(_KNOWN)
    try:
        return [(str(fingerprint), list(contents)) for fingerprint, contents in json.loads(raw or b"[]")]
    except (ValueError, TypeError):
        return []
