"""One layer has one count of shared directions: in Python, on the pages, in the report and on the command line."""

from __future__ import annotations

import pytest

import uws_core as uws
from uws_core import run
from uws_core.analysis.shared_directions import shared_directions
from uws_core.cli.results import layer_spectrum
from uws_core.frames.spectrum import overview
from uws_core.reporting.evidence_cache import EvidenceSettings
from uws_core.reporting.report_data import gather
from uws_core.zoo.demo import DEMOS, PREFIX


@pytest.mark.parametrize("name", DEMOS)
def test_every_door_gives_the_same_count(name: str) -> None:
    collection = uws.collect(PREFIX + name)
    layer = next(key for key in collection.layers if not key.factor)
    (gram,) = run.scan(collection, [layer.name])
    count = shared_directions(gram).count
    # A page asks for its own number of draws, the evidence for fewer: the count stays.
    assert uws.null_band(gram).above == count
    assert uws.null_band(gram, draws=19).above == count
    assert uws.null_band(gram, draws=100, unit=True).above == count
    assert overview([layer_spectrum(gram, 200)])["above"].to_list() == [count]
    usable = tuple(int(row) for row in gram.chosen())
    report = gather(collection, [layer.name], EvidenceSettings(usable, draws=19))
    assert report.spectrum.band is not None
    assert report.spectrum.band.above == count
    assert report.whole["components"].value == count
    assert [evidence["components"].value for _, evidence in report.layers] == [count]
