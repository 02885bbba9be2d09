"""The report holds every claim, is whole or not there, and asks nothing of any network, whatever names it is given."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from playwright.sync_api import Browser
from safetensors.numpy import save_file

import uws_core as uws
from tests.planted import families, gram_of, spiked
from uws_core.analysis.evidence import evidence
from uws_core.errors import Cancelled, ExportError, LayerError, NotEnoughModels, StoreError
from uws_core.nouns.claims import CLAIMS, KIN
from uws_core.nouns.evidence import Evidence
from uws_core.nouns.models import Collection
from uws_core.reporting import evidence_cache
from uws_core.reporting.evidence_cache import DRAWS, EvidenceSettings, affordable
from uws_core.store.codec import MATH_VERSION, from_bytes, to_bytes
from uws_core.store.results import Store

EVIL = "<img src=x onerror=alert(1)>&\"'</script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("results")) as opened:
        yield opened


@pytest.fixture(scope="module")
def kin(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Twelve models of three families, two layers, and a table whose texts try to be HTML."""
    folder = tmp_path_factory.mktemp("kin")
    rows = families([4, 4, 4], 144, likeness=0.5, seed=1).astype(np.float32)
    for i, row in enumerate(rows):
        halves = row.reshape(2, 12, 6)
        save_file({f"blocks.{n}.up.weight": half.copy() for n, half in enumerate(halves)}, folder / f"m{i}.safetensors")
    cell = '"' + EVIL.replace('"', '""') + '"'
    table = "".join(f"m{i},{'abc'[i // 4]},{cell}\n" for i in range(12))
    (folder / "models.csv").write_text(f"model,kin,note\n{table}")
    return uws.collect(folder, name=f"kin {EVIL}")


@pytest.fixture(scope="module")
def made(kin: Collection, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("made") / "report"
    return uws.report(kin, into=into, groups="kin", draws=19, seed=4, store=store)


def test_every_claim_stands_with_its_definition_and_source(made: Path) -> None:
    page = (made / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", page.replace("\u00a0", " "))
    # The column makes the same groups as the lineage, so these are asked once.
    for claim in (one for one in CLAIMS.values() if one.key not in KIN.values()):
        for words in (claim.title, claim.definition, claim.source):
            assert words.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in text


def test_names_are_shown_and_never_run(made: Path) -> None:
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img src=x" not in page
    assert "<script>alert(2)" not in page


def test_nothing_is_loaded_from_elsewhere(made: Path) -> None:
    page = (made / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"<(?:link|iframe|img|object|embed)\b", outside)
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", outside)
    assert "default-src 'none'" in outside
    assert page.count("plotly.js v") == 1


def test_the_tables_hold_what_python_gives(made: Path, kin: Collection, store: Store) -> None:
    grams = {gram.layer.name: gram for gram in uws.scan(kin, store=store)}
    both = grams["blocks.0.up.weight"] + grams["blocks.1.up.weight"]
    found = evidence(both, groups=kin.table["kin"], grouped_by="kin", draws=19, seed=4)
    table = pl.read_parquet(made / "tables" / "claims.parquet")
    assert dict(table.select("claim", "verdict").iter_rows()) == {
        one.claim: one.verdict.value for one in found.findings
    }
    assert table.filter(pl.col("claim") == "relatives")["value"].item() == found["relatives"].value
    by_layer = pl.read_parquet(made / "tables" / "claims_by_layer.parquet")
    assert set(by_layer["claim"]) - set(KIN.values()) == set(table["claim"]) == set(CLAIMS) - set(KIN.values())
    told = json.loads((made / "provenance.json").read_text())
    assert told["math_version"] == MATH_VERSION
    assert told["settings"]["seed"] == "4"
    assert told["collection"]["models"] == [str(ref) for ref in kin.refs]


def test_the_same_seed_gives_the_same_tables(made: Path, kin: Collection, tmp_path: Path) -> None:
    with Store(tmp_path / "another") as other:
        again = uws.report(kin, into=tmp_path / "again", groups="kin", draws=19, seed=4, store=other)
        third = uws.report(kin, into=tmp_path / "third", groups="kin", draws=19, seed=5, store=other)
    tables = [pl.read_parquet(place / "tables" / "claims.parquet") for place in (made, again, third)]
    assert tables[0].equals(tables[1])
    assert not tables[0].drop("seed").equals(tables[2].drop("seed"))


def test_an_archive_and_a_single_page(kin: Collection, store: Store, tmp_path: Path) -> None:
    options = {"groups": "kin", "draws": 19, "seed": 4, "layers": ["blocks.1.up.weight"], "store": store}
    archive = uws.report(kin, into=tmp_path / "new" / "report.zip", **options)
    names = set(zipfile.ZipFile(io.BytesIO(archive.read_bytes())).namelist())
    assert {"report.html", "provenance.json", "tables/claims.parquet", "tables/lineage.parquet"} <= names
    alone = uws.report(kin, into=tmp_path / "one.html", **options)
    assert alone.read_text(encoding="utf-8").startswith("<!doctype html>")
    # A page that is there is replaced by the newer one.
    assert uws.report(kin, into=alone, **options) == alone


def test_what_stands_there_is_not_touched(kin: Collection, store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(ExportError, match="other things in it"):
        uws.report(kin, into=tmp_path / "mine", draws=19, store=store)
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_stopped_report_leaves_nothing_but_what_was_judged(kin: Collection, tmp_path: Path) -> None:
    def stop(fraction: float, message: str) -> None:
        if message.startswith("1.up: noise"):
            raise Cancelled("stop was pressed")

    with Store(tmp_path / "results") as own:
        with pytest.raises(Cancelled):
            uws.report(kin, into=tmp_path / "report", draws=19, store=own, report=stop)
        assert {one.name for one in tmp_path.iterdir()} == {"results"}
        rows = tuple(range(12))
        settings = EvidenceSettings(rows, draws=19, whole=evidence_cache.whole_checkpoint(kin, rows))
        assert evidence_cache.stored_evidence(kin, ["blocks.0.up.weight"], settings, store=own) is not None


def test_the_size_of_a_whole_checkpoint_makes_the_second_ratio(kin: Collection, made: Path) -> None:
    # Two layers of 12 x 6 are all that these models store.
    assert evidence_cache.whole_checkpoint(kin, (0, 1)) == 144
    assert evidence_cache.whole_checkpoint(kin, ()) is None
    by_layer = pl.read_parquet(made / "tables" / "claims_by_layer.parquet")
    assert by_layer.filter(pl.col("claim") == "space")["reason"].str.contains("; whole checkpoints ").all()


@pytest.mark.parametrize("count", [2, 3])
def test_few_models_get_a_report_that_cannot_tell(kin: Collection, store: Store, tmp_path: Path, count: int) -> None:
    place = uws.report(kin, into=tmp_path / "few", members=list(range(count)), draws=19, store=store)
    table = pl.read_parquet(place / "tables" / "claims.parquet")
    assert table.filter(pl.col("claim") == "concentrated")["verdict"].item() == "cannot tell"
    assert "too few models" in (place / "report.html").read_text(encoding="utf-8")


def test_equal_models_get_a_report_that_cannot_tell(store: Store, tmp_path: Path) -> None:
    (tmp_path / "equal").mkdir()
    weights = {"blocks.0.up.weight": np.ones((6, 5), np.float32) * np.arange(5, dtype=np.float32)}
    for i in range(6):
        save_file(weights, tmp_path / "equal" / f"m{i}.safetensors")
    place = uws.report(uws.collect(tmp_path / "equal"), into=tmp_path / "report", draws=19, store=store)
    assert set(pl.read_parquet(place / "tables" / "claims.parquet")["verdict"]) == {"cannot tell"}


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"groups": "colour"}, NotEnoughModels, "no column 'colour'.*kin"),
        ({"layers": ["blocks.9.up.weight"]}, LayerError, "none called blocks.9.up.weight"),
        ({"groups": ["a"] * 5}, NotEnoughModels, "12"),
        ({"members": [3]}, NotEnoughModels, "(?i)two|at least"),
    ],
)
def test_what_cannot_be_reported_is_said(
    kin: Collection, store: Store, tmp_path: Path, options: dict[str, object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        uws.report(kin, into=tmp_path / "report", draws=19, store=store, **options)
    assert not list(tmp_path.iterdir())


def test_evidence_comes_back_from_bytes_bit_for_bit() -> None:
    found = evidence(gram_of(spiked(12, 300, strengths=(20.0,), seed=3)), draws=19, seed=2)
    again = from_bytes(Evidence, to_bytes(found))
    # Numbers that do not exist are NaN, which no comparison calls equal.
    assert to_bytes(again) == to_bytes(found)
    assert again["halves"].samples.tolist() == found["halves"].samples.tolist()
    assert again.determined is not None
    assert again.determined.k == found.determined.k
    with pytest.raises(StoreError, match="Evidence"):
        from_bytes(Evidence, to_bytes(gram_of(spiked(3, 30, strengths=(), seed=3))))


def test_many_layers_get_fewer_draws_and_never_too_few() -> None:
    assert affordable(40, 1, 99, within=15.0) == 99
    assert affordable(40, 60, 99, within=15.0) < 99
    assert affordable(1000, 60, 499, within=15.0) == DRAWS[0]


@pytest.mark.e2e
def test_it_opens_from_a_disk_without_a_request(made: Path, browser: Browser) -> None:
    asked: list[str] = []
    wrong: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.goto((made / "report.html").as_uri(), timeout=90_000)
    page.locator("#figure-verdicts .main-svg").first.wait_for(timeout=60_000)
    assert page.locator(".js-plotly-plot").count() >= 2 * 10
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # On paper nothing is folded.
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert wrong == []


@pytest.mark.e2e
def test_the_explorer_gives_pythons_numbers_for_any_choice(made: Path, kin: Collection, store: Store, browser) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 800})
    page.goto((made / "report.html").as_uri(), timeout=90_000)
    page.locator("#explore-scree .main-svg").first.wait_for(timeout=60_000)
    page.locator("#explore-layer").select_option(label="1.up")
    page.locator("#explore-count").click()
    page.get_by_role("button", name="kin: a").click()
    assert page.locator("#explore-count").inner_text() == "4 of 12 models"
    for row in (5, 6, 9):
        page.locator(f"[data-explore-row='{row}']").check()
    page.locator("#explore-k").fill("3")
    rows = [0, 1, 2, 3, 5, 6, 9]
    gram = next(uws.scan(kin, ["blocks.1.up.weight"], store=store))
    true = uws.spectrum(gram, members=rows)
    page.wait_for_function("document.getElementById('explore-k-value').textContent === '3'")
    shown = page.locator("#explore-answer").inner_text().replace("\u00a0", " ")
    assert shown.startswith(f"3 directions carry {100 * true.cumulative[2]:.0f} % of what makes these 7 models differ")
    assert f"Rank at 90 %: {true.rank_for(0.9).k}." in page.locator("#explore-numbers").inner_text()
    drawn = page.evaluate("document.getElementById('explore-scree').data[0].y")
    np.testing.assert_allclose(drawn, true.ratio[: len(drawn)], atol=1e-9)
    errors = [one.subspace[0] for one in uws.held_out(gram, groups=kin.labels, kept=3, members=rows)]
    np.testing.assert_allclose(
        page.evaluate("document.getElementById('explore-held-out').data[0].y"), errors, atol=1e-9
    )
    page.close()
