"""The compress page in a real browser: from a budget to a folder, its collection, and a member that comes back."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect
from safetensors.torch import load_file

from tests.e2e.conftest import Server, answer, figure, settled

pytestmark = pytest.mark.e2e
LAYERS = ["blocks.0.attn.q.weight", "blocks.1.attn.q.weight"]


def test_a_budget_becomes_a_folder_a_collection_and_a_rebuilt_member(server: Server, page: Page) -> None:
    page.goto(server.link("compress", c="demo:lora", l=LAYERS))
    expect(answer(page)).to_contain_text("Sharing does not pay: the worst model is")
    page.get_by_role("radio", name="size").click()
    amount = page.get_by_role("spinbutton", name=re.compile("Size, % of now"))
    amount.fill("60")
    amount.press("Enter")
    expect(page.get_by_text(re.compile(r"40 models in .* instead of .*; one more model costs"))).to_be_visible()
    expect(page.get_by_text("Sharing beats each model's own SVD at")).to_be_visible()
    settled(page)
    for nth in range(4):
        expect(figure(page, nth).locator(".main-svg").first).to_be_visible()
    page.get_by_role("textbox", name="Folder to write").fill("small")
    page.get_by_role("textbox", name="Folder to write").press("Enter")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.get_by_text("small is written.")).to_be_visible()
    assert json.loads((server.root / "small" / "subspace.json").read_text())["members"][0]["name"]
    page.get_by_role("button", name="Open it as a collection").click()
    expect(page.get_by_text("40 models in 2 layers, revision 1, basis 1.")).to_be_visible()
    page.get_by_role("button", name="Rebuild", exact=True).click()
    expect(page.get_by_text("is rebuilt in small-rebuilt.")).to_be_visible()
    (file,) = (server.root / "small-rebuilt").rglob("adapter_model.safetensors")
    assert any("lora_A" in name for name in load_file(file))
    page.get_by_test_id("stSidebarNav").get_by_text("Spectrum").click()
    expect(answer(page)).to_contain_text("directions")
    assert server.strangers == []
