"""The slider of the share on the spectrum page, and what its positions show."""

from __future__ import annotations

from dataclasses import replace

from uws_core.charts.spectrum import read_outs
from uws_core.charts.style import percent
from uws_core.nouns.query import Query
from uws_core.ui import live, state
from uws_core.ui.spectrum import view
from uws_core.ui.spectrum.data import SpectrumResult

PERCENTS = tuple(range(1, 100))


def share(result: SpectrumResult, query: Query) -> None:
    """A slider over the shares: rank, noise, numbers and answer follow in the browser."""
    now = round(100 * query.share, 3)
    values = tuple(sorted({*map(float, PERCENTS), now}))
    live.slider(
        "share",
        "Share, %",
        values,
        now,
        steps=lambda: steps(result, query, tuple(value / 100 for value in values)),
        # Another share alone has the same positions.
        subject=repr(replace(query, share=0.9)) + (f" {now}" if now not in PERCENTS else ""),
        choose=lambda value: state.set_selection(share=value / 100),
    )


def steps(result: SpectrumResult, query: Query, shares: tuple[float, ...]) -> live.Steps:
    """What every share shows."""
    answers = [result.answer(one) for one in shares]
    numbers = [view.numbers(result, replace(query, share=one)) for one in shares]
    if result.lines:
        heights, names = [[one, one] for one in shares], [percent(one) for one in shares]
        move = live.Move(traces={percent(query.share): {"y": heights, "name": names}})
    else:
        ranks = [result.rank(one) for one in shares]
        noise = [None if result.band is None else result.band.rank(one).middle for one in shares]
        lines, texts = read_outs(shares, ranks, noise)
        move = live.Move(shapes=lines, annotations={"rank": {"text": texts}})
    return live.Steps(answers, numbers, {"cumulative": move})
