"""The first minute of a new user in a real browser, beginning with a link into a server nobody has visited yet."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Server, answer, choose, choose_row, figure, settled, visitor, write_models

pytestmark = pytest.mark.e2e


# Only the first session of a server can reach a page past the entry.
def test_a_cold_deep_link_shows_the_figure_and_the_sidebar(new_server: Server, browser: Browser) -> None:
    for page in visitor(browser, new_server):
        page.goto(new_server.link("spectrum", c="demo:planted", m=["rows:0-9", "rows:20-29"]))
        expect(figure(page).locator(".scatterlayer .trace").first).to_be_visible()
        expect(answer(page)).to_contain_text("these models")
        expect(page.get_by_test_id("stSidebar")).to_contain_text("20 of 40 models")
        expect(page).to_have_title(re.compile("Spectrum"))
    assert new_server.strangers == []


def test_the_first_visit_lands_on_the_spectrum(server: Server, page: Page) -> None:
    page.goto(server.link())
    expect(page).to_have_url(re.compile(r"/spectrum\?c=demo%3Afinetuned"))
    expect(answer(page)).to_contain_text("these models")
    for nth in range(3):
        expect(figure(page, nth)).to_be_visible()
    expect(figure(page, 2).locator(".hm")).to_be_visible()


def test_a_choice_survives_a_reload(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum"))
    expect(answer(page)).to_contain_text("these models")
    choose(page, "Models", "task: prime")
    expect(answer(page)).to_contain_text("4 models give at most 3 directions")
    choose(page, "Models", "task: parity")
    expect(page.get_by_test_id("stSidebar")).to_contain_text("8 of 40 models")
    choose(page, "Layer", "2.attn.q")
    expect(answer(page)).to_contain_text("2.attn.q")
    expect(page).to_have_url(re.compile(r"layer=blocks\.2\.attn\.q\.weight"))
    settled(page)
    before, link = answer(page).inner_text(), page.url
    page.reload()
    expect(answer(page)).to_have_text(before)
    expect(page.get_by_test_id("stSidebar")).to_contain_text("8 of 40 models")
    assert page.url == link


# The page tests have its sentence, and a choice of another layer its way through the browser.
@pytest.mark.slow
def test_an_untrained_collection_falls_into_the_band(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum"))
    expect(answer(page)).to_contain_text("beyond chance")
    choose(page, "Collection", "40 never trained")
    expect(answer(page)).to_contain_text("No more than chance")
    expect(page).to_have_url(re.compile("c=demo%3Auntrained"))


def test_a_click_on_a_cell_chooses_its_layer(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:finetuned"))
    expect(answer(page)).to_contain_text("0.attn.k")
    expect(figure(page, 2).locator(".hm")).to_be_visible()
    settled(page)
    figure(page, 2).scroll_into_view_if_needed()
    box = figure(page, 2).locator(".hm image").first.bounding_box()
    assert box is not None
    # Three blocks and a column for layers outside them, eight rows: the middle of block 2, row mlp.up.
    place = (box["x"] + box["width"] * 2.5 / 4, box["y"] + box["height"] * 5.5 / 8)
    page.mouse.move(*place)
    expect(figure(page, 2).locator(".hoverlayer")).to_contain_text("2.mlp.up")
    page.mouse.click(*place)
    expect(answer(page)).to_contain_text("2.mlp.up")
    expect(page).to_have_url(re.compile(r"layer=blocks\.2\.mlp\.up\.weight"))


# Every page is opened so without a browser.
@pytest.mark.slow
def test_a_hostile_address_gives_clean_defaults(server: Server, page: Page) -> None:
    page.goto(
        server.link("spectrum", c="../../etc/passwd", k="NaN", layer="<img src=x>", m=["rows:9-1"], share="1e999")
    )
    expect(answer(page)).to_contain_text("these models")
    expect(page).to_have_url(re.compile(r"/spectrum\?c=demo%3Afinetuned&layer=blocks\.0\.attn\.k\.weight$"))
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_page_that_does_not_exist_leads_home(server: Server, page: Page) -> None:
    page.goto(server.link("nowhere"))
    expect(answer(page)).to_contain_text("these models")


def test_rows_of_the_table_become_the_choice(server: Server, page: Page) -> None:
    page.goto(server.link("collection"))
    expect(answer(page)).to_contain_text("40 models of one architecture")
    settled(page)
    table = page.locator("[class*=st-key-collection-models]").get_by_test_id("stDataFrame")
    for row in (1, 2, 3):
        choose_row(page, table, row)
        expect(page.get_by_role("button", name=f"Use {row} picked model")).to_be_enabled()
    page.get_by_role("button", name="Use 3 picked models").click()
    expect(answer(page)).to_contain_text("3 chosen models")
    expect(page).to_have_url(re.compile("m=at-least-five-0&m=at-least-five-1&m=at-least-five-2"))


def test_everything_in_the_export_is_what_it_says(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:planted"))
    expect(figure(page).locator(".scatterlayer .trace").first).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Export").first.click()
    starts = {
        "CSV": b"# 6 directions are shared beyond chance",
        "Parquet": b"PAR1",
        "HTML": b"<!doctype html>",
        "PDF": b"%PDF",
        "SVG": b"<svg",
        "PNG": b"\x89PNG",
    }
    for label, start in starts.items():
        assert saved(page, label).startswith(start), label
    archive = zipfile.ZipFile(io.BytesIO(saved(page, "Bundle")))
    assert {name.rsplit(".")[-1] for name in archive.namelist()} == {
        "html", "csv", "parquet", "json", "pdf", "svg", "png",
    }  # fmt: skip
    frame = pl.read_parquet(io.BytesIO(saved(page, "Parquet")))
    assert frame["above_band"].sum() == 6


def test_the_cameras_picture_is_an_svg(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:planted"))
    expect(figure(page).locator(".scatterlayer .trace").first).to_be_visible()
    settled(page)
    figure(page).hover()
    with page.expect_download() as download:
        figure(page).get_by_role("button", name="Download plot").click()
    assert download.value.suggested_filename.endswith(".svg")


def test_a_folder_of_ones_own_is_opened_by_its_path(server: Server, page: Page) -> None:
    folder = server.root / "runs"
    write_models(folder, models=12, layers=2)
    page.goto(server.link("collection"))
    page.get_by_role("tab", name="Folder").click()
    box = page.get_by_role("textbox", name="Open a folder of your own")
    box.fill("/etc")
    page.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).click()
    expect(page.get_by_text("outside the folders this app may read")).to_be_visible()
    box.fill(str(folder))
    page.get_by_test_id("stMain").get_by_role("button", name="Open", exact=True).click()
    expect(answer(page)).to_contain_text("12 models of one architecture, 2 layers comparable")
    page.get_by_role("link", name="Spectrum").click()
    expect(answer(page)).to_contain_text("these models")
    expect(page).to_have_url(re.compile(r"/spectrum\?c=folder%3Aruns-"))
    page.reload()
    expect(answer(page)).to_contain_text("these models")


def test_nobody_else_was_asked_for_anything(server: Server) -> None:
    assert server.strangers == []


def saved(page: Page, label: str) -> bytes:
    """The bytes behind a button of the open export."""
    with page.expect_download() as download:
        page.get_by_test_id("stPopoverBody").get_by_role("button", name=label, exact=True).click()
    return Path(download.value.path()).read_bytes()


def test_a_zoom_and_a_legend_choice_survive_another_layer(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:finetuned"))
    expect(answer(page)).to_contain_text("0.attn.k")
    expect(figure(page).locator(".scatterlayer .trace").first).to_be_visible()
    settled(page)
    box = figure(page).locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150, steps=5)
    page.mouse.up()
    figure(page).locator(".legendtoggle").first.click()
    seen = "node => [node._fullLayout.xaxis.range, node._fullData.map(trace => trace.visible)]"
    page.wait_for_function("document.querySelector('.uws-figure')._fullData.some(trace => trace.visible !== true)")
    before = figure(page).evaluate(seen)
    assert before[0][0] > 1
    choose(page, "Layer", "2.mlp.up")
    expect(answer(page)).to_contain_text("2.mlp.up")
    expect(figure(page)).to_have_attribute("data-drawn", re.compile("[2-9]"))
    assert figure(page).evaluate(seen) == before
