"""Collections from the Hub, an upload and the shelf in a real browser; the Hub is a stand-in on this machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from safetensors.numpy import save

from tests.e2e.conftest import Server, answer, settled
from tests.hub_fixtures import files
from tests.hub_standin import HubStandIn
from tests.planted import noise

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def models(hub: HubStandIn) -> None:
    """Eight fine-tuned models of one base."""
    tags = ["base_model:finetune:lab/base", "license:mit", "dataset:lab/data"]
    for i in range(8):
        hub.add(f"lab/task{i}", files(i), tags=tags, downloads=i)
    hub.add("lab/base", files(99))


def tab(page: Page, name: str) -> Locator:
    """The open tab of that name."""
    page.get_by_role("tab", name=name, exact=True).click()
    return page.get_by_test_id("stTabs").get_by_role("tabpanel").filter(visible=True)


def test_a_query_becomes_a_table_then_a_collection_with_an_address(server: Server, page: Page, hub: HubStandIn) -> None:
    read = len(hub.calls("*resolve*"))
    page.goto(server.link("collection"))
    opened = tab(page, "Hub")
    opened.get_by_role("textbox", name="Query, or a list of models").fill("finetunes:lab/base limit:6")
    opened.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_text("6 models, and more than the limit of 6")).to_be_visible()
    assert len(hub.calls("*resolve*")) == read
    opened.get_by_role("textbox", name="Base model").fill("lab/base")
    opened.get_by_role("button", name="Open 6 models").click()
    # The vectors, and that the query finds more than its limit.
    expect(answer(page)).to_contain_text(
        "6 models of one architecture, 3 layers comparable, 1 model or file left out; one base"
    )
    expect(page).to_have_url(re.compile(r"c=saved%3Afinetunes-lab-base-limit-6-"))
    settled(page)
    page.reload()
    expect(answer(page)).to_contain_text("6 models of one architecture, 3 layers comparable")
    page.get_by_role("link", name="Spectrum").click()
    expect(answer(page)).to_contain_text("directions")


def test_a_preset_fills_the_query_and_asks_nothing(server: Server, page: Page, hub: HubStandIn) -> None:
    page.goto(server.link("collection"))
    before = len(hub.quiet())
    tab(page, "Hub")
    box = page.get_by_role("combobox", name="Start from")
    box.click()
    page.get_by_role("option", name="SDXL style adapters").click()
    expect(page.get_by_role("textbox", name="Query, or a list of models")).to_have_value("KappaNeuro/* limit:100")
    assert len(hub.quiet()) == before


def test_a_file_of_names_fills_the_query(server: Server, page: Page) -> None:
    page.goto(server.link("collection"))
    tab(page, "Hub")
    page.get_by_role("button", name="From a text file").click()
    listed = {"name": "models.txt", "mimeType": "text/plain", "buffer": b"lab/task1\nlab/task2\n"}
    page.locator("input[type=file][accept*=txt]").set_input_files(listed)
    expect(page.get_by_role("textbox", name="Query, or a list of models")).to_have_value("lab/task1\nlab/task2\n")


def test_uploads_open_are_saved_downloaded_and_removed(server: Server, page: Page) -> None:
    page.goto(server.link("collection"))
    opened = tab(page, "Upload")
    models = [
        {
            "name": f"m{i}.safetensors",
            "mimeType": "application/octet-stream",
            "buffer": save({"w": noise(6, 4, seed=i)}),
        }
        for i in range(3)
    ]
    opened.locator("input[type=file]").set_input_files(models)
    opened.get_by_role("textbox", name="Name of the collection").fill("three of mine")
    opened.get_by_role("button", name="Open", exact=True).click()
    expect(answer(page)).to_contain_text("3 models of one architecture, 1 layer comparable")
    opened = tab(page, "Saved")
    with page.expect_download() as waiting:
        opened.get_by_role("button", name="Download .uws.toml").click()
    found = tomllib.loads(Path(waiting.value.path()).read_text())
    assert (found["name"], [row["label"] for row in found["model"]]) == ("three of mine", ["m0", "m1", "m2"])
    opened.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove it").click()
    expect(answer(page)).to_contain_text("40 models of one architecture")


def test_a_cell_that_is_edited_is_kept_over_a_reload(server: Server, page: Page) -> None:
    page.goto(server.link("collection", c="demo:planted"))
    expect(answer(page)).to_contain_text("40 models")
    page.get_by_text("Edit attributes").click()
    column = page.get_by_role("textbox", name="New column")
    column.fill("mood")
    column.press("Enter")
    settled(page)
    grid = page.get_by_test_id("stExpander").filter(has_text="Edit attributes").get_by_test_id("stDataFrame")
    # The grid with the new column is another one than before.
    expect(grid.get_by_role("columnheader", name="mood", include_hidden=True)).to_be_attached()
    settled(page)
    grid.hover()
    box = grid.bounding_box()
    assert box is not None
    # The new column's first cell: the grid is drawn, so a place is all there is to click on.
    page.mouse.dblclick(box["x"] + 115, box["y"] + 52)
    entry = page.locator("#portal").get_by_role("textbox")
    entry.fill("cheerful")
    entry.press("Enter")
    expect(page.get_by_text("1 cell changed and not kept yet")).to_be_visible()
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_role("button", name="Back to the models' own")).to_be_visible()
    settled(page)
    page.reload()
    expect(answer(page)).to_contain_text("40 models")
    page.get_by_role("textbox", name="Search").fill("cheerful")
    page.get_by_role("textbox", name="Search").press("Enter")
    expect(page.get_by_text("1 of 40 models shown")).to_be_visible()


def test_nothing_of_all_this_was_asked_of_anybody_else(server: Server) -> None:
    assert server.strangers == []
