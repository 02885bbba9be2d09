"""The lineage page's answers: who is like whom, what explains it, and where the models lie; from stored Grams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from uws_core import run
from uws_core.analysis.attributes import explained, overlaps
from uws_core.analysis.lineage import lineage
from uws_core.analysis.model_map import model_map
from uws_core.errors import CollectionError
from uws_core.nouns.gram import EntryStats, Gram
from uws_core.nouns.lineage import Explained, Lineage, ModelMap, Overlap
from uws_core.nouns.models import LeftOut, Value
from uws_core.nouns.query import Query
from uws_core.ui import grams
from uws_core.ui.catalogue import catalogue

Columns = Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class LineageResult:
    """What the lineage page shows of a query.

    `stats` are the entry statistics of all models of the collection; `table` has the columns of the models table, one
    value for each model of the lineage.
    """

    family: Lineage
    stats: EntryStats
    points: ModelMap
    table: Columns
    overlaps: tuple[Overlap, ...]
    explained: tuple[Explained, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def alike(self) -> bool:
        """Whether any two models can be compared: both away from the centre."""
        return int(np.isfinite(np.diag(self.family.cosines)).sum()) > 1

    @property
    def divided(self) -> bool:
        """Whether there are several groups, and fewer than models."""
        return 1 < self.family.sizes.size < self.family.s


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the models lie, and what the columns of the table explain of it; no threshold changes it."""

    points: ModelMap
    table: Columns
    explained: tuple[Explained, ...]


@st.cache_data(max_entries=256, max_size="256mb", show_spinner="Comparing the models")
def lineage_of(query: Query, threshold: float | None) -> LineageResult:
    """What these models show, as relatives at this threshold or at the steadiest one.

    Raises:
        NotEnoughModels: fewer than two usable models.
        LayerError: the layers cannot be compared about this centre.
        CollectionError: the collection changed or went away meanwhile.
    """
    whole = replace(query, members=(), about="mean")
    gram, every = _gram(whole), tuple(grams.of(whole))
    family = lineage(gram, threshold=threshold, members=query.members, about=query.about, layers=every)
    where = placed(replace(query, about="mean"))
    return LineageResult(
        family=family,
        stats=gram.entry_stats,
        points=where.points,
        table=where.table,
        overlaps=overlaps(family.groups, where.table),
        explained=where.explained,
        left_out=grams.left_out(query),
    )


@st.cache_data(max_entries=256, max_size="128mb", show_spinner=False)
def placed(query: Query) -> Placed:
    """The map of these models about their mean.

    Raises:
        NotEnoughModels: fewer than two usable models.
        CollectionError: the collection went away meanwhile.
    """
    points = model_map(_gram(replace(query, members=(), about="mean")), members=query.members)
    collection = catalogue().get(query.collection)
    if collection is None:
        raise CollectionError(f"{query.collection} went away while it was read; choose it again")
    table = {name: tuple(column[row] for row in points.members) for name, column in collection.table.items()}
    return Placed(points, table, tuple(explained(points, column, name=name) for name, column in table.items()))


@st.cache_data(max_entries=64, max_size="256mb", show_spinner=False)
def _gram(query: Query) -> Gram:
    """The Gram of one layer, or of all the query's layers as one, over all models."""
    every = tuple(grams.of(query))
    return every[0] if len(every) == 1 else run.whole_network(every)
