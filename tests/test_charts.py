"""Figures say what the frame says: heights, bands, edges, read-outs; on every ground, with a template of their own."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import polars as pl
import pytest

from tests.planted import gram_of, noise, spiked
from uws_core.analysis.nulls import null_band
from uws_core.analysis.spectrum import pooled, spectrum
from uws_core.charts import overview as overview_charts
from uws_core.charts import spectrum as charts
from uws_core.charts import style
from uws_core.frames import spectrum as frames
from uws_core.nouns.models import LayerKey
from uws_core.nouns.spectrum import LayerSpectrum, Rank

THEMES = (style.LIGHT, style.DARK, style.PRINT)
GRAM = gram_of(spiked(12, 400, strengths=(40.0, 25.0), seed=1))
SPECTRUM = spectrum(GRAM)
BAND = null_band(GRAM, kind="gaussian", draws=50, seed=0)
SCREE = frames.scree(SPECTRUM, BAND)


def trace(figure: go.Figure, name: str) -> go.Scatter:
    found = [each for each in figure.data if each.name and name in each.name]
    assert len(found) == 1, [each.name for each in figure.data]
    return found[0]


def words(figure: go.Figure) -> str:
    return " ".join(str(each.text) for each in figure.layout.annotations)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_a_figure_brings_its_own_template(theme: style.Theme, monkeypatch: pytest.MonkeyPatch) -> None:
    # Importing the web layer swaps plotly's default for one with placeholder colours.
    monkeypatch.setattr(pio.templates, "default", "plotly_dark")
    drawn = charts.scree(SCREE, theme=theme)
    assert drawn.layout.template.layout.font.color == theme.ink
    assert trace(drawn, "models").line.color == theme.series[0]


def test_a_scree_shows_the_shares_and_the_band() -> None:
    drawn = charts.scree(SCREE, ceiling=11)
    seen = trace(drawn, "models")
    np.testing.assert_allclose(np.asarray(seen.y), SPECTRUM.ratio[:11])
    np.testing.assert_allclose(np.asarray(trace(drawn, "median").y), BAND.middle[:11])
    np.testing.assert_allclose(np.asarray(trace(drawn, "95 %").y), BAND.low[:11])
    assert 0 < BAND.above < 11
    assert list(seen.marker.symbol) == ["circle"] * BAND.above + ["circle-open"] * (11 - BAND.above)
    assert "at most 11" in words(drawn)


def test_a_scale_shows_what_is_there() -> None:
    log, linear = charts.scree(SCREE), charts.scree(SCREE, log=False)
    low, high = (10**end for end in log.layout.yaxis.range)
    assert log.layout.yaxis.type == "log"
    assert low < SPECTRUM.ratio[:11].min() < SPECTRUM.ratio[0] < high
    assert all(low <= tick <= high for tick in log.layout.yaxis.tickvals)
    assert linear.layout.yaxis.type is None


def test_the_edge_and_the_floor_are_drawn_where_they_are() -> None:
    drawn = charts.scree(SCREE, edge=BAND.edge, floor=0.01)
    assert set(trace(drawn, "edge of noise").y) == {BAND.edge}
    assert max(shape.y1 for shape in drawn.layout.shapes) == 0.01
    assert not [each for each in charts.scree(SCREE).data if each.name and "edge" in each.name]


def test_a_share_reads_out_its_rank() -> None:
    drawn = charts.cumulative(SCREE, share=0.8, rank=SPECTRUM.rank_for(0.8), noise_rank=7.0, ceiling=11)
    rank = SPECTRUM.rank_for(0.8).k
    down = [shape for shape in drawn.layout.shapes if shape.x0 == shape.x1 == rank]
    assert len(down) == 1
    assert down[0].y1 == 0.8
    assert f"<b>{rank}</b> carry 80 %" in words(drawn)
    assert "noise needs 7" in words(drawn)


def test_a_censored_rank_is_not_drawn_as_a_number() -> None:
    drawn = charts.cumulative(SCREE, share=0.8, rank=Rank(3, censored=True))
    assert "<b>more than 3</b>" in words(drawn)
    assert not [shape for shape in drawn.layout.shapes if shape.x0 == shape.x1 == 3]


def test_a_mean_shows_its_deviation() -> None:
    spectra = [spectrum(gram_of(noise(8, 50, seed=seed))) for seed in range(3)]
    frame = frames.pooled(pooled(spectra))
    upper = charts.scree(frame).data[0]
    np.testing.assert_allclose(np.asarray(upper.y), (frame["share"] + frame["share_std"]).to_numpy())
    assert trace(charts.scree(frame), "deviation").fill == "tonexty"


def test_layers_side_by_side_keep_name_colour_and_dash() -> None:
    lines = {f"{depth}.{module}": SCREE for depth in range(2) for module in ("q", "k")}
    drawn = charts.several(lines, modules={name: name[2:] for name in lines})
    assert [each.name for each in drawn.data] == list(lines)
    styles = [(each.line.color, each.line.dash) for each in drawn.data]
    assert len(set(styles)) == 4
    assert styles[0][0] == styles[2][0] != styles[1][0]
    many = {str(i): SCREE for i in range(charts.MOST_LINES + 9)}
    assert len(charts.several(many, modules=dict.fromkeys(many, "q")).data) == charts.MOST_LINES


def _items(names: list[str]) -> list[LayerSpectrum]:
    return [LayerSpectrum(LayerKey(name, (20, 20)), SPECTRUM, BAND) for name in names]


def test_the_overview_puts_every_layer_in_its_cell() -> None:
    names = [f"blocks.{depth}.{module}.weight" for depth in (0, 1, 10) for module in ("q", "up")] + ["embed.weight"]
    frame = frames.overview(_items(names), share=0.9).with_columns(pl.Series("rank", range(7)))
    drawn = overview_charts.overview(frame, chosen="blocks.10.up.weight")
    heat = drawn.data[0]
    assert list(heat.x) == ["0", "1", "10", "outside"]
    assert list(heat.y) == ["q", "up", "embed"]
    expected = [[0, 2, 4, np.nan], [1, 3, 5, np.nan], [np.nan, np.nan, np.nan, 6]]
    np.testing.assert_array_equal(np.asarray(heat.z, dtype=float), expected)
    assert list(drawn.data[1].customdata) == names
    frame_of_choice = drawn.layout.shapes[0]
    assert (frame_of_choice.x0, frame_of_choice.y0) == (1.5, 0.5)


def test_modules_that_collide_get_rows_of_their_own() -> None:
    names = ["layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer1.1.conv1.weight"]
    drawn = overview_charts.overview(frames.overview(_items(names)))
    assert list(drawn.data[0].y) == ["layer1.*.conv1", "layer2.*.conv1"]
    assert np.isfinite(np.asarray(drawn.data[0].z, dtype=float)).sum() == 3


def test_z_is_centred_and_gaps_stay_blank() -> None:
    names = [f"blocks.{depth}.q" for depth in range(3)]
    frame = frames.overview(_items(names)).with_columns(pl.Series("z", [-2.0, 8.0, None]))
    heat = overview_charts.overview(frame, measure=overview_charts.Z).data[0]
    assert (heat.zmin, heat.zmax) == (-8.0, 8.0)
    assert np.isnan(np.asarray(heat.z, dtype=float)[0, 2])


@pytest.mark.parametrize(
    ("share", "text"), [(0.5, "50 %"), (0.123, "12 %"), (0.0512, "5.1 %"), (0.00123, "0.12 %"), (0.0, "0 %")]
)
def test_shares_are_written_for_people(share: float, text: str) -> None:
    assert style.percent(share) == text


def test_every_series_colour_is_seen_on_every_ground() -> None:
    for theme, ground in ((style.LIGHT, "#ffffff"), (style.DARK, "#101418")):
        assert _contrast(theme.series[0], ground) >= 4
        assert _contrast(theme.ink, ground) >= 7
        assert len(set(theme.series)) == len(theme.series) == 8


def _contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours. Source: WCAG 2.1, relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
