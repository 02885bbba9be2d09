"""What is chosen stays where a reader looks for it: back and forward in the browser, a reload, a second tab."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server, answer, choose, settled

pytestmark = pytest.mark.e2e


def test_back_and_forward_go_through_pages_and_choices(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:finetuned", layer="blocks.0.attn.k.weight", share="0.8"))
    expect(answer(page)).to_contain_text("80 %")
    page.wait_for_function("window.uwsHistory")
    settled(page)
    page.get_by_role("link", name="Angles").click()
    expect(page).to_have_url(re.compile(r"/angles\?.*share=0\.8"))
    expect(answer(page)).to_contain_text("leading input directions")
    settled(page)
    page.go_back()
    # At once: no entry of the page that is left comes between.
    expect(page).to_have_url(re.compile(r"/spectrum\?.*share=0\.8"))
    expect(answer(page)).to_contain_text("80 %")
    settled(page)
    choose(page, "Layer", "2.mlp.up")
    expect(answer(page)).to_contain_text("in 2.mlp.up")
    settled(page)
    page.go_back()
    expect(answer(page)).to_contain_text("in 0.attn.k")
    expect(page.get_by_test_id("stMain").get_by_role("combobox", name="Layer", exact=True)).to_have_value("0.attn.k")
    settled(page)
    page.go_forward()
    expect(answer(page)).to_contain_text("in 2.mlp.up")
    expect(page).to_have_url(re.compile(r"layer=blocks\.2\.mlp\.up\.weight"))


def test_a_second_tab_has_its_own_choice_and_both_survive_a_reload(server: Server, page: Page) -> None:
    page.goto(server.link("spectrum", c="demo:finetuned", layer="blocks.0.attn.k.weight"))
    expect(answer(page)).to_contain_text("in 0.attn.k")
    settled(page)
    second = page.context.new_page()
    second.goto(page.url)
    expect(answer(second)).to_contain_text("in 0.attn.k")
    settled(second)
    choose(second, "Layer", "2.mlp.up")
    expect(answer(second)).to_contain_text("in 2.mlp.up")
    settled(second)
    for tab, layer in ((page, "0.attn.k"), (second, "2.mlp.up")):
        said, link = answer(tab).inner_text(), tab.url
        tab.reload()
        expect(answer(tab)).to_have_text(said)
        assert f"in {layer}" in said
        assert tab.url == link
