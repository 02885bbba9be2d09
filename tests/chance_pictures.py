"""The pictures of docs/chance.md: `python -m tests.chance_pictures docs`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from tests.block_grams import gram_of
from uws_core.analysis.nulls import null_band
from uws_core.analysis.spectrum import spectrum
from uws_core.charts import spectrum as charts
from uws_core.charts.style import Theme
from uws_core.export import print_bytes
from uws_core.frames import spectrum as frames

MODELS, SHAPE = 24, (48, 48)


def collections() -> Mapping[str, np.ndarray]:
    """Weights (n, m, p): equal noise, noise with scales of rows in common, and one shared direction on top of them."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((MODELS, *SHAPE))
    scales = np.exp(0.5 * rng.standard_normal(SHAPE[0]))[:, None]
    direction = np.linalg.qr(rng.standard_normal((SHAPE[0] * SHAPE[1], 1)))[0].reshape(SHAPE)
    scores = rng.standard_normal(MODELS)[:, None, None]
    profile = scales * noise
    return {"equal": noise, "profile": profile, "shared": profile + 16 * scores * direction}


def picture(array: np.ndarray, theme: Theme) -> go.Figure:
    """The scree with the band that keeps the profile, and the upper end of equal noise as a line."""
    gram = gram_of(array)
    result, band, equal = spectrum(gram), null_band(gram), null_band(gram, kind="strength")
    frame = frames.scree(result, band)
    figure = charts.scree(frame, ceiling=result.ceiling, log=False, theme=theme)
    figure.add_scatter(
        x=frame["component"].to_numpy(),
        y=equal.high[: frame.height],
        mode="lines",
        line={"color": theme.series[5], "width": 1.2, "dash": "dot"},
        name="equal noise, 97.5 %",
    )
    figure.update_layout(height=300)
    return figure


def main() -> None:
    """Write the three PNG files into the folder that is named."""
    folder = Path(sys.argv[1])
    for name, array in collections().items():
        (folder / f"chance-{name}.png").write_bytes(print_bytes(partial(picture, array), form="png", mm=120))


if __name__ == "__main__":
    main()
