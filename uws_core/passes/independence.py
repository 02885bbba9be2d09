"""The exact independence test on models of a collection: reads the matrices around one hidden layer."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import torch

from uws_core.analysis.hidden_layers import KNOWN_NAMES, hidden_layers
from uws_core.analysis.independence import permutation_test, unit_products
from uws_core.analysis.noise import Indices
from uws_core.errors import LayerError, NotEnoughModels
from uws_core.nouns.arrays import Floats
from uws_core.nouns.gram import Members
from uws_core.nouns.independence import HiddenLayer, IndependenceTest
from uws_core.nouns.models import Collection, LowRank
from uws_core.passes.open_models import open_models
from uws_core.passes.options import Report, no_report
from uws_core.sources.base import Source

# Numbers that the products of all pairs may hold together; where they would be more, fewer units are compared.
MOST_PRODUCTS = 2**25
MOST_NETWORKS = 24


def independence(
    collection: Collection,
    members: Members = None,
    *,
    hidden: str | None = None,
    copies: int = 999,
    seed: int = 0,
    report: Report = no_report,
) -> IndependenceTest:
    """Returns an exact test of whether the chosen models were trained independently of each other.

    `members` are rows of the collection (None is all). `hidden` names a hidden layer of `hidden_layers` (None is the
    first). Training does not know the order of an MLP's hidden units, so networks with their units permuted are as
    likely as the networks themselves, and p is exact at `1 / (1 + copies)` whatever the weights are. A relative whose
    units were reordered is not found. Where pairs times units^2 pass 2^25 numbers, as many units are drawn as do not.
    Price: reads two or three matrices of each model; `units^2 p` multiply-adds a pair.

    Raises:
        NotEnoughModels: fewer than two models, or more than 24.
        LayerError: no such hidden layer, none known by name, updates of one base, or weights that are NaN.
        ValueError: fewer than 19 copies, with which no test can reach 5 %.

    Source: arXiv 2502.12292.
    """
    if copies < 19:
        raise ValueError(f"A test at 5 % needs at least 19 permuted copies; found {copies}")
    rows = tuple(range(len(collection))) if members is None else tuple(int(row) for row in members)
    if not 2 <= len(set(rows)) <= MOST_NETWORKS or len(set(rows)) < len(rows):
        raise NotEnoughModels(
            f"The independence test takes 2 to {MOST_NETWORKS} different models; found {len(rows)}, "
            f"{len(set(rows))} of them different"
        )
    layer = chosen_hidden_layer(collection, hidden)
    pairs = list(combinations(range(len(rows)), 2))
    units = min(layer.units, int((MOST_PRODUCTS / len(pairs)) ** 0.5))
    # The same units of every network, so that permuting them among themselves stays exact.
    chosen = np.sort(np.random.default_rng(seed).choice(layer.units, units, replace=False))
    networks = list[list[Floats]]()
    with open_models([collection.refs[row] for row in rows]) as sources:
        for source, row in zip(sources, rows, strict=True):
            networks.append(_matrices(source, layer, chosen, collection.labels[row]))
            report(0.5 * len(networks) / len(rows), f"{layer.name}: {len(networks)} of {len(rows)} models read")
    products = {}
    for i, j in pairs:
        products[i, j] = unit_products(networks[i], networks[j], hidden=layer.sides).astype(np.float32)
        report(0.5 + 0.5 * len(products) / len(pairs), f"{layer.name}: {len(products)} of {len(pairs)} pairs compared")
    result = permutation_test(products, copies=copies, seed=seed)
    return replace(result, hidden=layer.name, labels=tuple(collection.labels[row] for row in rows))


def chosen_hidden_layer(collection: Collection, hidden: str | None) -> HiddenLayer:
    """Returns the hidden layer of that name, or the first that is known.

    Raises:
        LayerError: there is none; the message says which there are.
    """
    known = {one.name: one for one in hidden_layers(collection.layers, transposed=collection.transposed)}
    if not known:
        raise LayerError(
            f"{collection.name}: no hidden layer is known by the names of the matrices before and after it; known "
            f"names are {KNOWN_NAMES}"
        )
    name = next(iter(known)) if hidden is None else hidden
    if name not in known:
        some = ", ".join(list(known)[:5])
        raise LayerError(f"{collection.name} has {len(known)} hidden layers, but none called {name!r}; such as {some}")
    return known[name]


def _matrices(source: Source, layer: HiddenLayer, units: Indices, label: str) -> list[Floats]:
    """The matrices around the hidden layer with these units only, each as it is stored."""
    matrices = list[Floats]()
    index = torch.from_numpy(units)
    for name, side in zip(layer.layers, layer.sides, strict=True):
        weights = source.read(name)
        if isinstance(weights, LowRank):
            raise LayerError(
                f"{label}: {name} is an update of a base. Updates of one base have the order of its hidden units, so "
                "that the test has nothing to say about them; it takes whole networks"
            )
        part = weights.index_select(0 if side == "out" else 1, index).float()
        if not torch.isfinite(part).all():
            raise LayerError(f"{label}: {name} has weights that are NaN or infinite; leave the model out")
        matrices.append(np.asarray(part.numpy()))
    return matrices
