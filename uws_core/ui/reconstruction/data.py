"""The reconstruction page's answers: held-out errors on any axis, what they cost to store, and newcomers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from uws_core import run
from uws_core.analysis.accounting import ceiling, storage
from uws_core.analysis.heldout import held_out, pooled
from uws_core.analysis.steps import reported
from uws_core.errors import CollectionError, LayerError, NotEnoughModels, StoreError, UwsError
from uws_core.frames.reconstruction import StorageChoice
from uws_core.jobs import Report
from uws_core.nouns.angles import Factors
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import HeldOut, HeldOutChance
from uws_core.nouns.models import Collection, LeftOut
from uws_core.nouns.query import Query, RebuildQuery
from uws_core.nouns.storage import StoredSizes
from uws_core.passes.options import no_report
from uws_core.store.codec import MATH_VERSION, gram_key, sequence_from_bytes, to_bytes
from uws_core.store.results import default_store
from uws_core.ui import compute, grams, tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.reconstruction import folds
from uws_core.ui.reconstruction.folds import group_labels, names

# So many numbers of directions are computed at most; in between the next smaller one stands for a k.
MOST_KS = 48
# A page waits so long for errors; longer work is a job. What takes less in a layer is not worth a place in the store.
INLINE_SECONDS, LEAST_STORED_SECONDS = 2.0, 0.02
# A decomposition of s models takes about that times s^3, and all s models held out one by one, on a modest machine.
SECONDS_PER_DECOMPOSITION, SECONDS_ONE_BY_ONE = 5e-10, 6e-8


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The errors of every model, by layer and over all layers together, and what could not be computed."""

    layers: dict[str, tuple[HeldOut, ...]]
    together: tuple[HeldOut, ...]
    left_out: tuple[LeftOut, ...]
    # The same of models that share nothing but their scales.
    chance: HeldOutChance | None = None

    @property
    def ceiling(self) -> int:
        """The most directions the others can have, in the fold and layer that have most."""
        return max((one.ceiling for one in self.together), default=0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known of the numbers, without what happens beyond the ceiling; see `clipped`."""
        said = dict.fromkeys(note for one in self.together for note in one.notes)
        return tuple(note for note in said if "were asked for" not in note)

    def clipped(self, k: int) -> tuple[int, tuple[str, ...]]:
        """The number of directions to show where k are asked for, and why it is less, or less for some models."""
        least = min((one.ceiling for one in self.together), default=0)
        if k > self.ceiling:
            asked = f"{k} directions were asked for, the models that are not held out have at most {self.ceiling}"
            return self.ceiling, (f"{asked}; that many are shown",)
        if k > least:
            few = sum(one.ceiling < k for one in self.together)
            return k, (f"For {few} of {len(self.together)} models the others have fewer than {k} directions",)
        return k, ()


def task(query: RebuildQuery, collection: Collection) -> tasks.Task | None:
    """What takes long beyond the Grams: the side axes, the models' own SVD, and many models; None when nothing does."""
    seconds, bytes_read = _price(query, collection)
    if query.axis == Axis.MODELS and not query.own and seconds <= INLINE_SECONDS:
        return None
    return tasks.Task(
        key=tasks.key_of("rebuild", replace(query, collection=""), group_labels(query, collection)),
        title=f"Rebuilding {_layers_text(query)} of {len(query.members)} models",
        seconds=seconds,
        bytes=bytes_read,
        work=lambda report: _prepare(query, collection, report),
        inline=INLINE_SECONDS,
    )


def rebuilt(query: RebuildQuery) -> Rebuilt:
    """The held-out errors of the query's models in each of its layers, and over all of them.

    Raises:
        UwsError: no layer in which anything can be held out.
    """
    collection = collection_of(query)
    return _rebuilt(query, kept_on(query, collection), (*group_labels(query, collection), *names(query, collection)))


# Shared and never changed: to copy 60 layers of 300 models takes 2 s. Each holds about a megabyte a layer then.
@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs={RebuildQuery: repr})
def _rebuilt(query: RebuildQuery, kept: tuple[int, ...], known_by: tuple[str, ...]) -> Rebuilt:
    """The same; `known_by` are the models' groups and names: the answer of the same weights changes with them."""
    found: dict[str, tuple[HeldOut, ...]] = {}
    problems: list[tuple[str, UwsError]] = []
    for name in query.layers:
        try:
            found[name] = layer_errors(replace(query, layers=(name,)), kept, known_by)
        except (LayerError, NotEnoughModels) as error:
            problems.append((name, error))
    if not found:
        raise problems[0][1] if problems else NotEnoughModels("No layer is chosen; choose one in the sidebar")
    left_out = tuple(LeftOut(name, str(error)) for name, error in problems)
    left_out += grams.left_out(Query(query.collection, query.fingerprint, query.members, query.layers))
    return Rebuilt(found, pooled(found.values()), left_out)


@st.cache_data(max_entries=512, max_size="256mb", show_spinner=False)
def layer_errors(query: RebuildQuery, kept: tuple[int, ...], known_by: tuple[str, ...]) -> tuple[HeldOut, ...]:
    """The held-out errors in the query's one layer, at the same numbers of directions as in all others.

    `known_by` are the models' groups and names: the answer of the same weights changes with them.

    Raises:
        UwsError: as for `held_out`, or the collection changed meanwhile.
    """
    return _layer_errors(query, collection_of(query), kept, None)


def sizes(query: RebuildQuery, axes: Sequence[str], *, other: int = 0) -> tuple[StorageChoice, ...]:
    """What each k takes to store and leaves of unseen models, on these axes; axes that fail are left away.

    `other` counts the numbers outside the layers, see `other_numbers`.

    Raises:
        UwsError: the collection changed meanwhile.
    """
    collection, rows = collection_of(query), []
    for axis in axes:
        one = on_axis(query, axis)
        try:
            found = rebuilt(one)
        except (LayerError, NotEnoughModels):
            continue
        rows += _sized(one, collection, found, other)
    return tuple(rows)


def on_axis(query: RebuildQuery, axis: str) -> RebuildQuery:
    """The query on another axis; on the side axes the others' mean is the only centre."""
    return replace(query, axis=axis, about=query.about if axis == Axis.MODELS else "mean")


@st.cache_data(max_entries=64, show_spinner=False)
def other_numbers(query: RebuildQuery) -> int:
    """How many numbers the query's models store outside the layers of the collection.

    Raises:
        LayerError: the models are updates only, so that nobody knows.
    """
    from uws_core.passes import rebuild

    return rebuild.other_numbers(collection_of(query), query.members)


@st.cache_data(max_entries=64, show_spinner=False)
def stored_in_files(collection: str, fingerprint: str, members: tuple[int, ...]) -> StoredSizes:
    """What the models' files store for every layer; asking 300 models of 60 layers each takes 0.3 s.

    Raises:
        CollectionError: the collection changed meanwhile.
    """
    # torch is loaded only where weights are read.
    from uws_core.passes.stored_sizes import stored_sizes

    found = catalogue().get(collection)
    if found is None or found.fingerprint != fingerprint:
        raise CollectionError(f"{collection} changed while it was read; choose it again")
    return stored_sizes(found, None, members)


def kept_on(query: RebuildQuery, collection: Collection) -> tuple[int, ...]:
    """The numbers of directions that are computed: all up to the ceiling, or about 48 of them, dense at the low end."""
    n = len(query.members)
    most = max(ceiling(collection.by_name[name], n=n, axis=Axis(query.axis)) for name in query.layers)
    if most < MOST_KS:
        return tuple(range(most + 1))
    steps = np.unique(np.round(np.geomspace(1, most, MOST_KS)).astype(int))
    nice = [k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512) if k <= most]
    return tuple(sorted({0, *steps.tolist(), *nice}))


def _layer_errors(
    query: RebuildQuery, collection: Collection, kept: tuple[int, ...], report: Report | None
) -> tuple[HeldOut, ...]:
    """From the store where they take long; from the Gram on the models axis, on a side axis by a pass."""
    own = folds.per_model_svd(query, collection) if query.own else None
    on_models = query.axis == Axis.MODELS
    if on_models and held_out_seconds(query, collection) < LEAST_STORED_SECONDS:
        return _model_errors(query, collection, kept, own)
    # A Gram's key says the base too, from which errors on this axis may be measured.
    of = gram_key(collection, collection.by_name[query.layers[0]]) if on_models else ""
    asked = (replace(query, collection=""), kept, group_labels(query, collection), *([of] if of else []))
    key = f"heldout/{MATH_VERSION}/{tasks.key_of('layer', *asked)}"
    raw = default_store().get(key)
    if raw is not None:
        with suppress(StoreError):
            return folds.by_name(sequence_from_bytes(HeldOut, raw), collection)
    if on_models:
        with reported(report):
            found = _model_errors(query, collection, kept, own)
    else:
        found = _side_errors(query, collection, kept, own, report)
    with suppress(StoreError):
        default_store().put(key, to_bytes(folds.by_row(found, collection)))
    return found


def _model_errors(
    query: RebuildQuery, collection: Collection, kept: tuple[int, ...], own: Factors | None
) -> tuple[HeldOut, ...]:
    (gram,) = grams.of(Query(query.collection, query.fingerprint, query.members, query.layers))
    return held_out(
        gram,
        groups=folds.groups(query, collection),
        kept=kept,
        members=query.members,
        about=query.about,
        reference=query.reference,
        own=own,
    )


def _side_errors(
    query: RebuildQuery, collection: Collection, kept: tuple[int, ...], own: Factors | None, report: Report | None
) -> tuple[HeldOut, ...]:
    # torch is loaded only where weights are read.
    from uws_core.passes.side_heldout import SideQuestion, side_held_out

    question = SideQuestion(
        axis=Axis(query.axis),
        kept=kept,
        reference=query.reference,
        own=own,
        total=run.cached_side_gram(collection, query.layers[0], axis=query.axis, members=query.members),
        budget=compute.options().budget,
    )
    held = folds.groups(query, collection)
    return side_held_out(
        collection, query.layers[0], question, groups=held, members=query.members, report=report or no_report
    )


def _sized(query: RebuildQuery, collection: Collection, rebuilt: Rebuilt, other: int) -> list[StorageChoice]:
    rows, layers = [], list(rebuilt.layers)
    sizes = replace(stored_in_files(query.collection, query.fingerprint, query.members), other=other)
    for place, k in enumerate(rebuilt.together[0].kept.tolist()):
        if k <= rebuilt.ceiling:
            mean, n = query.about == "mean", len(query.members)
            stored = storage(collection, layers, kept=k, axis=query.axis, mean=mean, members=n, stored=sizes)
            rows.append(StorageChoice(query.axis, stored, rebuilt.together, place))
    return rows


def _prepare(query: RebuildQuery, collection: Collection, report: Report) -> None:
    """Everything that reads weights, into the store, layer by layer."""
    part, kept = tasks.in_parts(report, len(query.layers)), kept_on(query, collection)
    for index, name in enumerate(query.layers):
        one = replace(query, layers=(name,))
        if query.own:
            with suppress(NotEnoughModels):
                folds.per_model_svd(one, collection, part(index))
        with suppress(LayerError, NotEnoughModels):
            _layer_errors(one, collection, kept, part(index))
        part(index)(1.0, collection.by_name[name].short)


def _price(query: RebuildQuery, collection: Collection) -> tuple[float, int]:
    """About how many seconds and bytes the task takes."""
    n, keys = len(query.members), [collection.by_name[name] for name in query.layers]
    groups = len(set(group_labels(query, collection)))
    times, steps = 0.0, 0.0
    if query.own:
        times, steps = 3.0, sum(n * (2.0 * key.entries * min(key.shape) + 30.0 * min(key.shape) ** 3) for key in keys)
    if query.axis != Axis.MODELS:
        sides = [key.shape[1] if query.axis == Axis.IN else key.shape[0] for key in keys]
        times += 4.0
        steps += sum(
            4.0 * n * key.entries * side + 10.0 * groups * side**3 for key, side in zip(keys, sides, strict=True)
        )
    seconds = tasks.read_seconds(collection, query.layers, times=times) if times else 0.0
    seconds += steps / tasks.STEPS_PER_SECOND + held_out_seconds(query, collection) * len(query.layers)
    return seconds, int(times * 4 * n * sum(key.entries for key in keys))


def held_out_seconds(query: RebuildQuery, collection: Collection) -> float:
    """About how long the errors of one layer take on the models axis; none where they are of a side axis."""
    s, groups = len(query.members), len(set(group_labels(query, collection)))
    if query.axis != Axis.MODELS:
        return 0.0
    return s**3 * (SECONDS_ONE_BY_ONE if groups == s else SECONDS_PER_DECOMPOSITION * groups)


def _layers_text(query: RebuildQuery) -> str:
    return "one layer" if len(query.layers) == 1 else f"{len(query.layers)} layers"


def collection_of(query: RebuildQuery) -> Collection:
    """The query's collection.

    Raises:
        CollectionError: it changed or went away meanwhile.
    """
    found = catalogue().get(query.collection)
    if found is None or found.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    return found
