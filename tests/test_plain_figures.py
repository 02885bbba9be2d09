"""Figures as plain dictionaries are those that plotly makes of the same calls, and wrong properties still fail."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.io._json import to_json_plotly

from tests.test_charts import BAND, SCREE
from uws_core.charts import spectrum as charts
from uws_core.charts import style
from uws_core.charts.plain import PlainFigure, parts_of
from uws_core.nouns.spectrum import Rank

START = {"template": style.DARK.template, "height": 300}


def heatmap(figure: go.Figure) -> go.Figure:
    """A figure with every kind of part, shorthand and array that the charts use."""
    figure.add_heatmap(z=np.eye(3), colorscale="cividis_r", colorbar={"title": "angle"}, texttemplate=None)
    figure.add_scattergl(x=np.arange(3), y=[1, None, 3], marker={"symbol": np.array(["circle", "star", "cross"])})
    figure.add_bar(x=["a", "b"], y=np.array([1.0, np.nan], dtype=np.float32), error_y={"array": np.ones(2)})
    figure.add_shape(type="line", x0=0, x1=np.int64(1), y0=0.5, y1=0.5, xref="x domain", line={"width": 2})
    figure.add_annotation(text="here", showarrow=False)
    figure.update_layout(yaxis2={"overlaying": "y", "title": "right"}, margin_t=44, legend={"y": 1})
    figure.update_layout(legend={"yanchor": "top"}, paper_bgcolor="#fff")
    figure.update_xaxes(title_text="k", range=[0.5, 3.5], tickvals=[1, 2])
    figure.update_yaxes(rangemode="tozero", selector={"overlaying": None})
    return figure


def sent(figure: go.Figure) -> object:
    return json.loads(to_json_plotly(figure.to_dict()))


def scree(_: go.Figure) -> go.Figure:
    return charts.scree(SCREE, floor=1e-9, ceiling=11, edge=BAND.edge)


def cumulative(_: go.Figure) -> go.Figure:
    return charts.cumulative(SCREE, share=0.9, rank=Rank(4), noise_rank=7.0)


@pytest.mark.parametrize("draw", [heatmap, scree, cumulative], ids=lambda draw: draw.__name__)
def test_what_is_sent_is_what_plotly_would_send(draw: Callable[[go.Figure], go.Figure]) -> None:
    plain = draw(PlainFigure(START))
    quick = sent(plain)
    whole = copy.deepcopy(plain)
    assert type(whole) is go.Figure, "a copy has been validated"
    assert quick == sent(whole)
    assert plain.layout.height == whole.layout.height, "reading makes it an ordinary figure"
    assert sent(plain) == quick
    plain.update_layout(height=77)
    assert plain.layout.height == parts_of(plain)["layout"]["height"] == 77


def test_the_same_calls_on_a_figure_of_plotlys_own_give_the_same() -> None:
    assert sent(heatmap(PlainFigure(START))) == sent(heatmap(go.Figure(layout=START)))


@pytest.mark.parametrize("wrong", [{"mode": "nonsense"}, {"nonsense": 1}, {"line_width": -1}])
def test_a_wrong_property_fails_when_the_figure_is_read(wrong: dict[str, object]) -> None:
    figure = PlainFigure(START)
    figure.add_scatter(x=[1], y=[1], **wrong)
    with pytest.raises(ValueError, match="nvalid"):
        assert figure.data
