"""The adapt page in a real browser: a training is started, watched, left, stopped, goes on, and is taken along."""

from __future__ import annotations

import json
import re
import zipfile

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server, answer, figure, settled

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# 48 trainings of so few steps take ten seconds on an idle core, minutes on a busy one.
STEPS = "10"
PATIENCE_MS = 300_000


def test_a_training_is_watched_left_stopped_goes_on_and_is_taken_along(server: Server, page: Page) -> None:
    page.goto(server.link("adapt", c="demo:lora", task="inverted", steps=STEPS))
    expect(answer(page)).to_contain_text("the shared subspace holds")
    settled(page)
    main = page.get_by_test_id("stMain")
    expect(main).to_contain_text("48 trainings of 10 steps")
    main.get_by_role("button", name="Train", exact=True).click()
    # Live: a count that grows, and the curve of the training under way.
    expect(main).to_contain_text(re.compile(r"[1-9]\d* of 48 trainings"))
    expect(figure(page).locator(".main-svg").first).to_be_visible()

    page.reload()
    stop = main.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_visible()
    stop.click()
    go_on = main.get_by_role("button", name="Go on", exact=True)
    expect(go_on).to_be_visible()
    expect(main).to_contain_text(re.compile(r"[1-9]\d* of 48 trainings are finished and kept"))

    go_on.click()
    expect(answer(page)).to_have_text(re.compile("^(Better|Worse|No better) .*a random basis on"), timeout=PATIENCE_MS)
    settled(page)
    expect(figure(page).locator(".main-svg").first).to_be_visible()
    with page.expect_download() as download:
        main.get_by_role("button", name="LoRA adapter").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        config = json.loads(archive.read("adapter_config.json"))
        assert config["r"] == config["lora_alpha"] == 6
        assert len(archive.read("adapter_model.safetensors")) > 4 * 18 * 6 * 64
    assert server.strangers == []
