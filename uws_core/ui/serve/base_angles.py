"""The angles page's answer about the base: each model's own directions against those the base is strongest in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import streamlit as st

from uws_core.analysis.base_angles import base_angles, base_levels
from uws_core.answers import base_angles as answers
from uws_core.frames import angles as frames
from uws_core.nouns.angles import Angles, ChanceLevel
from uws_core.nouns.models import LeftOut
from uws_core.nouns.views import AnglesQuery
from uws_core.ui.serve import angle_reads as reads


@dataclass(frozen=True, slots=True)
class SeenBase:
    """Each model's angles to the base in the order of the list, with what chance gives for them."""

    labels: tuple[str, ...]
    every: tuple[Angles, ...]
    levels: tuple[ChanceLevel, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known of the numbers."""
        found = dict.fromkeys(note for one in self.every for note in one.notes)
        return (*list(found)[:1], *([f"{len(found) - 1} more models have fewer too"] if len(found) > 1 else []))

    def frame(self, attributes: Mapping[str, Sequence[object]] | None = None) -> pl.DataFrame:
        """Every number of the figure, a row a model."""
        return frames.to_base(self.labels, self.every, self.levels, attributes)

    def answer(self, query: AnglesQuery, place: str) -> str:
        """The sentence that answers the page's question."""
        told = {"place": place, "side": query.axis, "about": query.about}
        return answers.answer(self.every, self.levels, **told)


@st.cache_data(max_entries=48, max_size="128mb", show_spinner=False)
def seen(query: AnglesQuery) -> SeenBase:
    """How these models' own directions lie to the base's.

    Raises:
        UwsError: the collection has no base with this layer, or a centre is not known.
    """
    factors = reads.factors(query, reads.collection_of(query))
    every = base_angles(factors, side=query.axis, kept=query.k)
    return SeenBase(factors.labels[:-1], every, base_levels(every), factors.left_out)
