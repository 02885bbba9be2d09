"""One layer has one count of shared directions: in Python, on the pages, in the report and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

import uws_core as uws
from tests.nothing_shared import KINDS
from tests.ui.conftest import Open
from uws_core import run
from uws_core.analysis.shared_directions import shared_directions
from uws_core.cli.main import main
from uws_core.nouns.chance import SharedDirections
from uws_core.nouns.models import Collection
from uws_core.reporting.evidence_cache import EvidenceSettings
from uws_core.reporting.report_data import gather
from uws_core.ui.catalogue import catalogue
from uws_core.zoo.demo import DEMOS, PREFIX

# Many directions, none, and faint ones; all others in `make soak`.
QUICK = ("planted", "noise", "spike")
every_collection = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DEMOS]
)


def counted(collection: Collection) -> tuple[str, SharedDirections]:
    """The first layer and its count in Python."""
    layer = next(key for key in collection.layers if not key.factor)
    (gram,) = run.scan(collection, [layer.name])
    shared = shared_directions(gram)
    # A page asks for its own number of draws, the evidence for fewer: the count stays.
    assert uws.null_band(gram).above == shared.count
    assert uws.null_band(gram, draws=19).above == shared.count
    assert uws.null_band(gram, draws=100, unit=True).above == shared.count
    return layer.name, shared


@every_collection
def test_report_and_command_line_give_the_count_of_python(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UWS_CACHE", str(tmp_path))
    collection = uws.collect(PREFIX + name)
    layer, shared = counted(collection)
    assert main(["scan", PREFIX + name, "--layers", layer, "--noise", "--json", "--quiet"]) == 0
    assert [json.loads(line)["above"] for line in capsys.readouterr().out.splitlines()] == [shared.count]
    (gram,) = run.scan(collection, [layer])
    report = gather(collection, [layer], EvidenceSettings(tuple(int(row) for row in gram.chosen()), draws=19))
    assert report.spectrum.band is not None
    assert report.spectrum.band.above == shared.count
    assert report.whole["components"].value == shared.count
    assert [evidence["components"].value for _, evidence in report.layers] == [shared.count]


@every_collection
def test_spectrum_and_evidence_pages_give_the_count_of_python(name: str, open_page: Open) -> None:
    layer, shared = counted(uws.collect(PREFIX + name))
    spectrum = open_page("spectrum", c=PREFIX + name, layer=layer)
    assert {each.label: each.value for each in spectrum.metric}["Shared directions"] == str(shared.count)
    evidence = open_page("evidence", c=PREFIX + name, layer=layer, draws="19")
    row = pl.from_pandas(_claims(evidence)).filter(claim="components").row(0, named=True)
    assert int(row["value"]) == shared.count
    assert row["p"] == f"{shared.p[0]:.2g}"


def test_pages_name_what_flipped_blocks_do_not_cover(tmp_path: Path, open_page: Open) -> None:
    for i, weights in enumerate(KINDS["positive, own means"](np.random.default_rng(0))[:12]):
        save_file({"w.weight": weights.astype(np.float32)}, tmp_path / f"m{i}.safetensors")
    collection = catalogue().add(str(tmp_path))
    spectrum = open_page("spectrum", c=collection, layer="w.weight")
    assert {each.label: each.value for each in spectrum.metric}["Shared directions"] != "0"
    assert "weights of every model have one sign" in _told(spectrum)
    evidence = open_page("evidence", c=collection, layer="w.weight", draws="19")
    row = pl.from_pandas(_claims(evidence)).filter(claim="components").row(0, named=True)
    assert "weights of every model have one sign" in row["reason"]


def _told(app: AppTest) -> str:
    assert not app.exception, [each.stack_trace for each in app.exception]
    return "\n".join(each.value for each in (*app.markdown, *app.caption, *app.warning, *app.info))


def _claims(app: AppTest) -> object:
    assert not app.exception, [each.stack_trace for each in app.exception]
    return app.dataframe[0].value
