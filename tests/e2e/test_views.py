"""The angles and reconstruction pages in a real browser: a cell, another k, every export, a reload to the same."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Locator, Page, expect
from safetensors.torch import load_file, save_file

import uws_core as uws
from tests.e2e.conftest import Server, answer, choose, choose_row, figure, settled, still
from tests.e2e.test_first_minute import saved

pytestmark = pytest.mark.e2e

LAYER = "blocks.1.attn.q.weight"
STARTS = {
    "csv": b"# ", "parquet": b"PAR1", "html": b"<!doctype html>", "pdf": b"%PDF", "svg": b"<svg", "png": b"\x89PNG"
}  # fmt: skip


def heatmap(page: Page) -> Locator:
    """The figure of all pairs: the first one that holds a heatmap of its own tree."""
    return page.locator(".uws-figure").filter(has=page.locator(".hm")).first


def set_k(page: Page, k: int) -> None:
    box = page.get_by_role("spinbutton", name="k", exact=False).first
    box.fill(str(k))
    box.press("Enter")


def test_a_click_on_a_cell_looks_at_its_pair_and_a_reload_keeps_it(server: Server, page: Page) -> None:
    page.goto(server.link("angles", c="demo:finetuned", layer=LAYER, k="8", view="groups", group="task", order="list"))
    expect(answer(page)).to_contain_text("two values of")
    settled(page)
    place = _cell(page, row=2, column=7, of=10)
    page.mouse.move(*place)
    hover = page.locator(".hoverlayer .hovertext").first
    expect(hover).to_contain_text("mean angle")
    names = (hover.locator("tspan.line").first.text_content() or "").split(", ")
    page.mouse.click(*place)
    expect(page.get_by_text(f"{names[0]} and {names[1]}: mean angle")).to_be_visible()
    expect(page).to_have_url(re.compile(rf"pair={names[0]}&pair={names[1]}"))
    settled(page)
    before = answer(page).inner_text()
    page.reload()
    expect(answer(page)).to_have_text(before)
    expect(page.get_by_text(f"{names[0]} and {names[1]}: mean angle")).to_be_visible()


def test_two_rows_of_the_table_are_a_pair(server: Server, page: Page) -> None:
    page.goto(server.link("angles", c="demo:finetuned", layer=LAYER, k="8", view="groups", group="task"))
    expect(answer(page)).to_contain_text("two values of")
    page.get_by_text("Groups (10 rows)").click()
    table = page.get_by_test_id("stDataFrame").first
    expect(table).to_be_visible()
    settled(page)
    for row in (1, 3):
        choose_row(page, table, row)
    expect(page).to_have_url(re.compile(r"pair=[\w-]+&pair=[\w-]+"))


# A dragged k is in the default run.
@pytest.mark.slow
def test_another_k_changes_the_answer_and_the_address(server: Server, page: Page) -> None:
    page.goto(server.link("angles", c="demo:finetuned", layer=LAYER))
    expect(answer(page)).to_contain_text("the 16 leading input directions")
    settled(page)
    set_k(page, 4)
    expect(answer(page)).to_contain_text("the 4 leading input directions")
    expect(page).to_have_url(re.compile(r"k=4"))
    expect(heatmap(page)).to_be_visible()


def test_a_click_on_a_dot_looks_at_its_model_beside_the_base(server: Server, page: Page) -> None:
    page.goto(server.link("angles", c="demo:lora", layer=LAYER, k="4", view="base", about="base", measure="overlap"))
    expect(answer(page)).to_contain_text("overlap with the base")
    settled(page)
    dot = still(page, figure(page).locator(".scatterlayer .point").nth(20))
    dot.hover(force=True)
    hover = page.locator(".hoverlayer .hovertext").first
    expect(hover).to_contain_text("overlap")
    name = hover.locator("tspan.line").first.text_content() or ""
    dot.click(force=True)
    expect(page.get_by_text(f"{name} and the base: mean angle").first).to_be_visible()
    expect(page).to_have_url(re.compile(rf"pair={name}&pair=the(\+|%20)base"))
    page.reload()
    expect(page.get_by_text(f"{name} and the base: mean angle").first).to_be_visible()


def test_every_view_of_angles_draws_its_figure(server: Server, page: Page) -> None:
    page.goto(server.link("angles", c="demo:untrained", k="4"))
    expect(answer(page)).to_contain_text("No more than chance")
    for view, says in (("halves", "random halves"), ("layers", "of two layers"), ("models", "of two models")):
        page.get_by_role("radio", name=view, exact=True).click()
        expect(answer(page)).to_contain_text(says)
        expect(figure(page).locator(".main-svg").first).to_be_visible()


# Cells are printed otherwise than lines, which the spectrum page has.
@pytest.mark.parametrize("name", ["angles", pytest.param("reconstruction", marks=pytest.mark.slow)])
def test_every_format_of_an_export_is_what_it_says(server: Server, page: Page, name: str) -> None:
    page.goto(server.link(name, c="demo:planted", layer=LAYER, k="6", axis="in"))
    expect(figure(page).locator(".main-svg").first).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Export").first.click()
    # Buttons of the other formats are pressed on the spectrum page; the bundle prints every one of them here too.
    pdf = saved(page, "PDF")
    # 120 mm are 340 points; the fonts travel inside the file.
    found = re.search(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)", pdf)
    assert found is not None
    assert abs(float(found[1]) - 120 / 25.4 * 72) < 2
    assert b"/FontFile" in pdf
    archive = zipfile.ZipFile(io.BytesIO(saved(page, "Bundle")))
    files = {name.rsplit(".")[-1]: archive.read(name) for name in archive.namelist()}
    assert {form: files[form].startswith(start) for form, start in STARTS.items()} == dict.fromkeys(STARTS, True)
    assert b"axis=in" in archive.read("provenance.json")
    assert pl.read_parquet(io.BytesIO(saved(page, "Parquet"))).height > 0


def test_holding_out_a_task_is_harder_than_a_model(server: Server, page: Page) -> None:
    page.goto(server.link("reconstruction", c="demo:finetuned", layer=LAYER))
    expect(answer(page)).to_contain_text("unseen task's model")
    settled(page)
    page.get_by_role("radio", name="model", exact=True).click()
    expect(answer(page)).to_contain_text("an unseen model")
    expect(page).to_have_url(re.compile("hold=model"))
    set_k(page, 5)
    expect(answer(page)).to_contain_text("5 shared directions")
    settled(page)
    before, link = answer(page).inner_text(), page.url
    page.reload()
    expect(answer(page)).to_have_text(before)
    assert page.url == link


def test_networks_are_scored_on_demand_and_the_scores_stay(server: Server, page: Page) -> None:
    few = {"m": ["task=prime", "task=parity"], "l": ["blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight"]}
    page.goto(server.link("reconstruction", c="demo:finetuned", layer="blocks.0.mlp.up.weight", **few))
    expect(answer(page)).to_contain_text("unseen task's model")
    settled(page)
    page.get_by_role("button", name="Compute").last.click()
    expect(page.get_by_text("Score against k")).to_be_visible(timeout=120_000)
    expect(page.get_by_role("button", name="Compute")).to_have_count(0)
    page.reload()
    expect(page.get_by_text("Score against weight error")).to_be_visible()


def test_a_dropped_file_is_projected(server: Server, page: Page, tmp_path: Path) -> None:
    state = load_file(uws.collect("demo:finetuned").refs[3].repo)
    own = tmp_path / "mine.safetensors"
    save_file({name: (value * 1.02).contiguous() for name, value in state.items()}, own)
    page.goto(server.link("reconstruction", c="demo:finetuned", layer=LAYER))
    expect(answer(page)).to_contain_text("unseen task's model")
    page.get_by_text("Project another model").click()
    page.locator("input[type=file]").set_input_files(own)
    expect(page.get_by_text("directions of the collection rebuild")).to_be_visible()
    expect(page.get_by_text("mine: error against directions kept")).to_be_visible()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    page.locator("input[type=file]").set_input_files(broken)
    expect(page.get_by_text("broken", exact=False).first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)


# The spectrum page has the same box.
@pytest.mark.slow
def test_the_layer_is_chosen_on_the_page(server: Server, page: Page) -> None:
    page.goto(server.link("reconstruction", c="demo:finetuned"))
    expect(answer(page)).to_contain_text("0.attn.k")
    choose(page, "Layer", "2.mlp.up")
    expect(answer(page)).to_contain_text("2.mlp.up")
    page.get_by_role("link", name="Angles").click()
    expect(answer(page)).to_contain_text("2.mlp.up")


def test_nobody_else_was_asked_for_anything(server: Server) -> None:
    assert server.strangers == []


def _cell(page: Page, *, row: int, column: int, of: int) -> tuple[float, float]:
    """The middle of a cell of the heatmap on the screen."""
    heatmap(page).scroll_into_view_if_needed()
    box = heatmap(page).locator(".hm image").first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] * (column + 0.5) / of, box["y"] + box["height"] * (row + 0.5) / of
