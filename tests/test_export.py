"""Exports hold the same numbers as the page, say where they come from, and reach for no network."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.conftest import browser_path
from tests.planted import gram_of, noise
from uws_core import export
from uws_core.analysis.spectrum import spectrum
from uws_core.charts import spectrum as charts
from uws_core.errors import ExportError
from uws_core.frames import spectrum as frames
from uws_core.nouns.models import LeftOut

FRAME = frames.scree(spectrum(gram_of(noise(6, 40, seed=2))))
ORIGIN = export.Provenance(
    name="spectrum demo:planted 0.attn.q",
    caption="In `0.attn.q`, 5 directions\ncarry <90 %>.",
    collection="demo:planted",
    fingerprint="abc",
    models=("m0@1", "m1@2"),
    layers=("blocks.0.attn.q.weight",),
    settings={"about": "mean"},
    left_out=(LeftOut("head", "other shape: 2 x 2"), LeftOut("<script>", "evil & more")),
    columns=frames.HELP,
    address="/spectrum?c=demo%3Aplanted",
)
DRAW = partial(lambda frame, theme: charts.scree(frame, theme=theme), FRAME)


def test_csv_reads_back_and_says_what_was_left_out() -> None:
    raw = export.csv_bytes(FRAME, ORIGIN)
    back = pl.read_csv(io.BytesIO(raw), comment_prefix="#")
    np.testing.assert_array_equal(back["share"].to_numpy(), FRAME["share"].to_numpy())
    notes = [line for line in raw.decode().splitlines() if line.startswith("#")]
    assert "# In `0.attn.q`, 5 directions carry <90 %>." in notes
    assert "# left out: head: other shape: 2 x 2" in notes
    assert f"# column share: {frames.HELP['share']}" in notes


def test_parquet_reads_back_with_its_provenance() -> None:
    raw = io.BytesIO(export.parquet_bytes(FRAME, ORIGIN))
    assert pl.read_parquet(raw).equals(FRAME)
    told = json.loads(pl.read_parquet_metadata(raw)["uws"])
    assert told["left_out"][0] == {"what": "head", "reason": "other shape: 2 x 2"}


def test_html_is_whole_light_and_asks_nobody() -> None:
    text = export.html_bytes(DRAW, ORIGIN).decode()
    assert "Plotly.newPlot" in text
    assert '"showSendToCloud": false' in text or '"showSendToCloud":false' in text
    # Tags only: the script itself names icons of maps, which no chart here draws.
    assert re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=.?https?:", text) is None
    assert "&lt;script&gt;" in text
    assert "carry &lt;90 %&gt;" in text
    assert '"paper_bgcolor":"#ffffff"' in text


def test_provenance_names_models_versions_and_the_choice() -> None:
    told = json.loads(ORIGIN.as_json())
    assert told["collection"]["models"] == ["m0@1", "m1@2"]
    assert told["settings"] == {"about": "mean"}
    assert {"python", "torch", "numpy", "polars", "plotly"} <= set(told["packages"])
    assert told["address"] == "/spectrum?c=demo%3Aplanted"


def test_file_names_are_plain() -> None:
    assert ORIGIN.stem == "spectrum-demo-planted-0.attn.q"
    assert replace(ORIGIN, name="../../etc/passwd\x00").stem == "etc-passwd"
    assert replace(ORIGIN, name="///").stem == "figure"


def test_without_a_browser_printing_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    export.print_obstacle.cache_clear()
    try:
        with pytest.raises(ExportError, match=r"need a Chrome or Chromium.*BROWSER_PATH"):
            export.print_bytes(DRAW, form="pdf")
        names = zipfile.ZipFile(io.BytesIO(export.bundle_bytes(DRAW, FRAME, ORIGIN))).namelist()
    finally:
        export.print_obstacle.cache_clear()
    stem = ORIGIN.stem
    assert sorted(names) == sorted([f"{stem}.html", f"{stem}.csv", f"{stem}.parquet", "provenance.json"])


@pytest.mark.e2e
@pytest.mark.parametrize("mm", export.PRINT_MM)
def test_a_printed_figure_has_the_size_it_says(mm: int) -> None:
    pdf = export.print_bytes(DRAW, form="pdf", mm=mm)
    assert pdf.startswith(b"%PDF")
    box = pdf[pdf.index(b"/MediaBox") :].split(b"[")[1].split(b"]")[0].split()
    assert float(box[2]) == pytest.approx(mm / 25.4 * 72, abs=1.0)
    png = export.print_bytes(DRAW, form="png", mm=mm)
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == pytest.approx(mm / 25.4 * 300, abs=4)
    # A length without a unit is in pixels of 1/96 inch.
    width = export.print_bytes(DRAW, form="svg", mm=mm).split(b'width="')[1].split(b'"')[0]
    assert float(width) == pytest.approx(mm / 25.4 * 96, abs=0.5)


@pytest.mark.e2e
def test_a_bundle_holds_everything() -> None:
    assert browser_path()
    archive = zipfile.ZipFile(io.BytesIO(export.bundle_bytes(DRAW, FRAME, ORIGIN)))
    starts = {name.rsplit(".", 1)[1]: archive.read(name)[:5] for name in archive.namelist()}
    assert set(starts) == {"html", "csv", "parquet", "json", "pdf", "svg", "png"}
    assert starts["svg"] == b"<svg "
    assert starts["parquet"][:4] == b"PAR1"


def test_an_unknown_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "print_obstacle", lambda: "")
    with pytest.raises(ExportError, match="one of pdf, svg, png; found 'exe'"):
        export.print_bytes(DRAW, form="exe")
