"""The nouns in a notebook: a sentence and a table for each, and the figure that the pages draw of it."""

# Nouns and options of charts have many types.
# ruff: noqa: ANN401

from __future__ import annotations

from functools import singledispatch
from html import escape
from typing import Any

import plotly.graph_objects as go
import polars as pl

import uws_core.answers.adapt
import uws_core.answers.compress
import uws_core.answers.lineage
import uws_core.charts.adapt
import uws_core.charts.angle_tables
import uws_core.charts.angles
import uws_core.charts.compress
import uws_core.charts.lineage
import uws_core.charts.reconstruction
import uws_core.charts.spectrum
import uws_core.frames.adapt
import uws_core.frames.angles
import uws_core.frames.collection
import uws_core.frames.compress
import uws_core.frames.lineage
import uws_core.frames.reconstruction
import uws_core.frames.spectrum
from uws_core.analysis.adapt import judged
from uws_core.analysis.order import by_likeness
from uws_core.charts import style
from uws_core.errors import UwsError
from uws_core.nouns.adapting import Comparison
from uws_core.nouns.angles import Angles, AngleTable, Factors
from uws_core.nouns.chance import NullBand
from uws_core.nouns.gram import Gram
from uws_core.nouns.heldout import HeldOut
from uws_core.nouns.lineage import Lineage
from uws_core.nouns.models import Collection, LayerKey
from uws_core.nouns.spectrum import Spectrum
from uws_core.nouns.storage import Compression

# A notebook's output is read, not searched.
_MOST_ROWS = 12


def html(noun: object) -> str:
    """The noun as HTML: what it is in a sentence, and its table of at most 12 rows."""
    with pl.Config(tbl_rows=_MOST_ROWS, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        return f"<p>{escape(sentence(noun))}</p>{table(noun)._repr_html_()}"


@singledispatch
def sentence(noun: Any) -> str:
    """What the noun is, in one sentence."""
    return type(noun).__name__


@singledispatch
def table(noun: Any) -> pl.DataFrame:
    """The noun's numbers as a frame."""
    raise UwsError(f"a {type(noun).__name__} has no table")


@singledispatch
def figure(noun: Any, **options: object) -> go.Figure:
    """The noun's figure; `options` go to its chart.

    Raises:
        UwsError: the noun has none.
    """
    raise UwsError(f"a {type(noun).__name__} has no figure; its table shows in a notebook")


@sentence.register
def _(noun: Collection) -> str:
    entries = sum(key.entries for key in noun.layers)
    base = ", with a base" if noun.base is not None else ""
    return f"{noun.name}: {len(noun)} models, {len(noun.layers)} layers, {entries:,} weights each{base}"


@table.register
def _(noun: Collection) -> pl.DataFrame:
    return uws_core.frames.collection.layers(noun, {}).drop("scree", "rank", "bytes")


@sentence.register
def _(noun: Gram) -> str:
    return f"Inner products of {noun.n} models in {_layers(noun.layers)}, {noun.d:,} weights, about their mean"


@table.register
def _(noun: Gram) -> pl.DataFrame:
    norms = {f"norm about {center}": noun.about(center).diagonal().clip(0) ** 0.5 for center in ("mean", "zero")}
    return pl.DataFrame({"model": noun.labels, "used": noun.usable, **norms})


@figure.register
def _(noun: Gram, *, center: str = "zero", theme: style.Theme = style.LIGHT) -> go.Figure:
    chart, names, cosines = style.figure(theme, height=480), list(noun.labels), noun.cosines(center)
    chart.add_heatmap(z=cosines, x=names, y=names, zmin=-1, zmax=1, colorscale="RdBu", colorbar={"title": "cosine"})
    chart.update_yaxes(autorange="reversed")
    return chart


@sentence.register
def _(noun: Spectrum) -> str:
    rank = noun.rank_for(0.9)
    return f"{rank.k} of at most {noun.ceiling} directions hold 90 % of the variance"


@table.register
def _(noun: Spectrum) -> pl.DataFrame:
    return uws_core.frames.spectrum.scree(noun)


@figure.register
def _(noun: Spectrum, *, band: NullBand | None = None, **options: Any) -> go.Figure:
    return uws_core.charts.spectrum.scree(uws_core.frames.spectrum.scree(noun, band), **options)


@sentence.register
def _(noun: HeldOut) -> str:
    return f"What the directions of the other models leave of {noun.model}, relative to its squared size"


@table.register
def _(noun: HeldOut) -> pl.DataFrame:
    return uws_core.frames.reconstruction.errors([noun])


@figure.register
def _(noun: HeldOut, **options: Any) -> go.Figure:
    frames = uws_core.frames.reconstruction
    return uws_core.charts.reconstruction.errors(frames.curve([noun]), frames.errors([noun]), **options)


@sentence.register
def _(noun: Factors) -> str:
    return f"The {noun.left.shape[2]} strongest directions of each of {noun.n} models in {noun.layer.short}"


@table.register
def _(noun: Factors) -> pl.DataFrame:
    values = {f"singular value {k + 1}": noun.singular[:, k] for k in range(min(4, noun.singular.shape[1]))}
    return pl.DataFrame({"model": noun.labels, "norm": noun.norm2**0.5, **values})


@sentence.register
def _(noun: Angles) -> str:
    return f"{noun.k} principal angles, mean {noun.mean_degrees:.1f}°, largest {noun.largest_degrees:.1f}°"


@table.register
def _(noun: Angles) -> pl.DataFrame:
    return uws_core.frames.angles.pair(noun)


@figure.register
def _(noun: Angles, **options: Any) -> go.Figure:
    return uws_core.charts.angles.pair(uws_core.frames.angles.pair(noun), **options)


@sentence.register
def _(noun: AngleTable) -> str:
    return f"Principal angles of every two of {len(noun.labels)} subspaces"


@table.register
def _(noun: AngleTable) -> pl.DataFrame:
    return uws_core.frames.angles.pairs(noun)


@figure.register
def _(noun: AngleTable, **options: Any) -> go.Figure:
    return uws_core.charts.angle_tables.heatmap(noun, by_likeness(noun.mean_degrees), **options)


@sentence.register
def _(noun: Lineage) -> str:
    return uws_core.answers.lineage.answer(noun, location=noun.what)


@table.register
def _(noun: Lineage) -> pl.DataFrame:
    return uws_core.frames.lineage.models(noun)


@figure.register
def _(noun: Lineage, **options: Any) -> go.Figure:
    return uws_core.charts.lineage.cosine_heatmap(noun, **options)


@sentence.register
def _(noun: Compression) -> str:
    return uws_core.answers.compress.answer(noun)


@table.register
def _(noun: Compression) -> pl.DataFrame:
    return uws_core.frames.compress.rivals(noun)


@figure.register
def _(noun: Compression, **options: Any) -> go.Figure:
    return uws_core.charts.compress.rivals(uws_core.frames.compress.rivals(noun), **options)


@sentence.register
def _(noun: Comparison) -> str:
    return uws_core.answers.adapt.answer(judged(noun))


@table.register
def _(noun: Comparison) -> pl.DataFrame:
    return uws_core.frames.adapt.rows(judged(noun))


@figure.register
def _(noun: Comparison, **options: Any) -> go.Figure:
    whole = uws_core.frames.adapt.averaged(uws_core.frames.adapt.rows(judged(noun)))
    return uws_core.charts.adapt.scores(whole, **({"metric": noun.metric} | options))


def _layers(keys: tuple[LayerKey, ...]) -> str:
    return keys[0].short if len(keys) == 1 else f"{len(keys)} layers"
