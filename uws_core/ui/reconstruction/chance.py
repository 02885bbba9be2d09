"""What models that share nothing but their scales give on the reconstruction page: at once, or by a job of its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import reduce
from operator import add

import streamlit as st

from uws_core.analysis.heldout_chance import MOST_FOLDS, held_out_chance
from uws_core.analysis.steps import reported
from uws_core.errors import LayerError, NotEnoughModels, StoreError
from uws_core.jobs import Report
from uws_core.nouns.block_grams import most_blocks
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import HeldOutChance
from uws_core.nouns.models import Collection
from uws_core.nouns.query import Query, RebuildQuery
from uws_core.store.codec import gram_key, sequence_from_bytes, to_bytes
from uws_core.store.results import default_store
from uws_core.ui import grams, job_panel, tasks
from uws_core.ui.reconstruction import data, folds
from uws_core.ui.reconstruction.folds import group_labels

DRAWS = 39
# Ten draws more tell whether rows or columns are flipped.
_ALL_DRAWS = DRAWS + 10


def panel(query: RebuildQuery, collection: Collection) -> tuple[HeldOutChance | None, tuple[str, ...]]:
    """The chance over the query's layers, or why there is none; a panel with its cost or progress while it is drawn."""
    if query.axis != Axis.MODELS:
        return None, ()
    if not most_blocks(len(collection)):
        why = f"Of {len(collection)} models no blocks are kept, from which noise of the same profile is drawn"
        return None, (f"{why}; random directions stand in",)
    task = _task(query, collection)
    if task.seconds > task.inline and not job_panel.task_panel(task):
        return None, ("Random directions stand in until noise of the same profile is drawn",)
    kept, known_by = data.kept_on(query, collection), group_labels(query, collection)
    known = [one for name in query.layers if (one := _layer(_plain(query, name), kept, known_by)) is not None]
    # Where a model is damaged in one layer only, draws of different models do not add.
    shapes = {one.residual2.shape for one in known}
    whole = len(known) == len(query.layers) and len(shapes) == 1
    return (reduce(add, known) if whole else None), ()


def _task(query: RebuildQuery, collection: Collection) -> tasks.Task:
    n, many = len(query.members), len(query.layers)
    work = ("chance", replace(_plain(query, ""), layers=query.layers, collection=""), group_labels(query, collection))

    def prepare(report: Report) -> None:
        part = tasks.in_parts(report, many)
        for index, name in enumerate(query.layers):
            with reported(part(index)):
                _drawn(_plain(query, name), collection, data.kept_on(query, collection))

    return tasks.Task(
        key=tasks.key_of(*work),
        title=f"Drawing noise of the same profile for {many} layer{'s' * (many > 1)} of {n} models",
        seconds=many * _seconds(query),
        bytes=0,
        work=prepare,
        inline=data.INLINE_SECONDS,
    )


def _plain(query: RebuildQuery, layer: str) -> RebuildQuery:
    """The question without what the draws do not depend on."""
    return replace(query, layers=(layer,), reference="mean", own=False)


def _seconds(query: RebuildQuery) -> float:
    """About how long the draws of one layer take."""
    return _ALL_DRAWS * MOST_FOLDS * (1e-4 + data.SECONDS_PER_DECOMPOSITION * len(query.members) ** 3)


@st.cache_data(max_entries=256, max_size="128mb", show_spinner=False)
def _layer(query: RebuildQuery, kept: tuple[int, ...], known_by: tuple[str, ...]) -> HeldOutChance | None:
    """The same in one layer; `known_by` are the groups' labels, with which the answer changes."""
    return _drawn(query, data.collection_of(query), kept)


def _drawn(query: RebuildQuery, collection: Collection, kept: tuple[int, ...]) -> HeldOutChance | None:
    """The draws of one layer, from the store where they take long; None where nothing can be flipped."""
    layer = gram_key(collection, collection.by_name[query.layers[0]])
    asked = (replace(query, collection=""), kept, group_labels(query, collection), DRAWS, layer)
    key, long = tasks.key_of("drawn", *asked), _seconds(query) >= data.LEAST_STORED_SECONDS
    raw = default_store().get(key) if long else None
    if raw is not None:
        with suppress(StoreError):
            return next(iter(sequence_from_bytes(HeldOutChance, raw)), None)
    (gram,) = grams.of(Query(query.collection, query.fingerprint, query.members, query.layers))
    groups, found = folds.groups(query, collection), None
    with suppress(LayerError, NotEnoughModels):
        found = held_out_chance(gram, groups=groups, kept=kept, members=query.members, about=query.about, draws=DRAWS)
    if long:
        with suppress(StoreError):
            default_store().put(key, to_bytes(() if found is None else (found,)))
    return found
