"""The angles page's answers: models, groups of models, random halves, or layers, and one pair of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import streamlit as st

from uws_core import run
from uws_core.analysis.angle_tables import chance_level, model_angles, side_table
from uws_core.analysis.angles import chance_band, level_of, pair_angles, shared_angles, side_angles
from uws_core.analysis.group_angles import group_angles, half_angles, relabelled
from uws_core.analysis.order import by_likeness
from uws_core.answers.angles import answer, answer_halves
from uws_core.errors import LayerError
from uws_core.frames.angles import halves, pairs
from uws_core.nouns.angles import BASE, Angles, AngleTable, ChanceLevel, Order, TableBand
from uws_core.nouns.chance import NullBand
from uws_core.nouns.gram import Axis, Gram
from uws_core.nouns.models import Collection, LeftOut, by_model
from uws_core.nouns.query import AnglesQuery, Query
from uws_core.ui import grams, tokens
from uws_core.ui.angles import reads

SPLITS = 20
# Above it shuffled labels take longer than anybody waits for a band.
MOST_SHUFFLED_STEPS = 5e9


@dataclass(frozen=True, slots=True)
class AnglesResult:
    """What the page shows of a query: a table of pairs, or random splits in two, with chance beside them."""

    table: AngleTable | None
    order: Order | None
    level: ChanceLevel
    band: TableBand | None = None
    splits: tuple[Angles, ...] = ()
    split_band: NullBand | None = None
    left_out: tuple[LeftOut, ...] = ()
    unshuffled: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known of the numbers."""
        if self.table is not None:
            return (*self.table.notes, *([self.unshuffled] if self.unshuffled else []))
        return tuple(dict.fromkeys(note for split in self.splits[:1] for note in split.notes))

    def frame(self) -> pl.DataFrame:
        """Every number of the figure."""
        if self.table is not None:
            return pairs(self.table, self.band)
        return halves(self.splits, self.split_band)

    def answer(self, query: AnglesQuery, location: str) -> str:
        """The sentence that answers the page's question."""
        if self.table is None:
            return answer_halves(self.splits, location=location, side=query.axis, level=self.level, by=query.group)
        return answer(self.table, level=self.level, band=self.band, location=location, side=query.axis, by=query.group)


@st.cache_data(max_entries=48, max_size="256mb", show_spinner=False)
def result_of(query: AnglesQuery) -> AnglesResult:
    """What these models, groups, halves or layers show.

    Raises:
        UwsError: too few models, groups or layers, or a centre that is not known.
    """
    collection = reads.collection_of(query)
    if query.view == "halves":
        if query.axis == Axis.MODELS:
            gram, groups = _gram(query), collection.table[query.group] if query.group else None
            splits = half_angles(
                gram,
                kept=query.k,
                repeats=SPLITS,
                seed=query.seed,
                members=query.members,
                groups=groups,
                about=query.about,
            )
            left_out = _left_out([gram])
        else:
            sides = reads.sides(query, collection)
            left_out = _left_out(sides)
            splits = tuple(side_angles(*two, kept=query.k) for two in zip(sides[::2], sides[1::2], strict=True))
        k, other = splits[0].cosines.shape
        level = level_of(k, other, splits[0].dimension)
        return AnglesResult(None, None, level, None, splits, chance_band(splits[0]), left_out)
    table, band, left_out = _table(query, collection)
    order = by_likeness(table.mean_degrees)
    unshuffled = _unshuffled(query) if query.view == "groups" and band is None else ""
    return AnglesResult(table, order, chance_level(table), band, left_out=left_out, unshuffled=unshuffled)


@st.cache_data(max_entries=256, max_size="64mb", show_spinner=False)
def pair(query: AnglesQuery, left: str, right: str) -> tuple[Angles, NullBand]:
    """The angles of two rows of the query's table, and what random directions show.

    Raises:
        LayerError: no such row.
    """
    collection = reads.collection_of(query)
    names = list(_names(query, collection))
    if left not in names or right not in names:
        raise LayerError(f"{left} and {right} are not both among what is compared here")
    # The last row, whatever the models are called.
    last = query.view == "base" and right == BASE
    angles = _pair(query, collection, names.index(left), len(names) - 1 if last else names.index(right))
    return angles, chance_band(angles)


def _table(query: AnglesQuery, collection: Collection) -> tuple[AngleTable, TableBand | None, tuple[LeftOut, ...]]:
    if query.view == "models":
        factors = reads.factors(query, collection)
        return model_angles(factors, side=query.axis, kept=query.k), None, factors.left_out
    if query.view == "layers":
        sides = reads.sides(query, collection)
        return side_table(sides, kept=query.k), None, _left_out(sides)
    groups = reads.groups(query, collection)
    if query.axis != Axis.MODELS:
        sides = reads.sides(query, collection)
        return side_table(sides, kept=query.k, what="groups", labels=groups), None, _left_out(sides)
    gram, labels = _gram(query), collection.table[query.group]
    table = group_angles(gram, labels, kept=query.k, members=query.members, about=query.about)
    if query.draws * len(query.members) ** 3 * 30 / len(groups) ** 2 > MOST_SHUFFLED_STEPS:
        return table, None, _left_out([gram])
    band = relabelled(
        gram,
        labels,
        kept=query.k,
        members=query.members,
        about=query.about,
        draws=query.draws,
        seed=query.seed,
    )
    return table, band, _left_out([gram])


def _unshuffled(query: AnglesQuery) -> str:
    """Why groups have no band of shuffled labels, and what stands in for it."""
    if query.axis == Axis.MODELS:
        why, instead = f"{len(query.members)} models take too long for it", "choose fewer models to see them"
    else:
        why = f"on the {query.axis} axis each shuffle would read every weight again"
        instead = "choose the models axis to see them, or halves for how alike random sets of these models are here"
    return f"Shuffled labels are not drawn: {why}. Chance here is random directions; {instead}"


def _pair(query: AnglesQuery, collection: Collection, left: int, right: int) -> Angles:
    if query.view in reads.OF_MODELS:
        return pair_angles(reads.factors(query, collection), left, right, side=query.axis, kept=query.k)
    if query.view == "groups" and query.axis == Axis.MODELS:
        rows = list(reads.rows_by_group(query, collection).values())
        return shared_angles(_gram(query), rows[left], rows[right], kept=query.k, about=query.about)
    sides = reads.sides(query, collection)
    return side_angles(sides[left], sides[right], kept=query.k)


def _left_out(every: Sequence[Gram]) -> tuple[LeftOut, ...]:
    return by_model(item for gram in every for item in gram.left_out)


def _names(query: AnglesQuery, collection: Collection) -> tuple[str, ...]:
    """The rows of the query's table, as they are labelled there."""
    if query.view in reads.OF_MODELS:
        return tuple(collection.labels[row] for row in query.members) + ((BASE,) if query.view == "base" else ())
    if query.view == "layers":
        return tuple(collection.by_name[name].short for name in query.layers)
    return reads.groups(query, collection)


def _gram(query: AnglesQuery) -> Gram:
    every = tuple(grams.of(Query(query.collection, query.fingerprint, query.members, query.layers)))
    return every[0] if len(every) == 1 else run.whole_network(every)


def groups_of(collection: Collection, name: str, members: tuple[int, ...]) -> tuple[str, ...] | None:
    """Each chosen model's value of an attribute as text, for the strip of colours; None without one."""
    if name not in tokens.group_columns(collection):
        return None
    return tuple(str(collection.table[name][row]) for row in members)
