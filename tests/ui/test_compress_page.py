"""The compress page: the verdict beside its rivals, and a folder that is written where the app may write."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import uws_core as uws
from tests.ui.conftest import Open, after_work, drawn

LAYERS = ["blocks.0.attn.q.weight", "blocks.1.attn.q.weight"]


def told(app: AppTest) -> str:
    assert not app.exception, [each.stack_trace for each in app.exception]
    return "\n".join(each.value for each in (*app.subheader, *app.markdown, *app.caption, *app.error, *app.warning))


def computed(app: AppTest) -> AppTest:
    """The page after its fits are done, inline or as a job."""
    after_work(app, lambda: "one more model costs" in told(app))
    return app


def test_adapters_are_judged_against_their_own_svd(open_page: Open):
    app = computed(open_page("compress", c="demo:lora", l=LAYERS))
    assert "Sharing does not pay: the worst model is" in told(app)
    assert len(drawn(app)) == 4


def test_a_group_is_held_out_and_the_sizes_at_which_sharing_pays_are_named(open_page: Open):
    app = computed(open_page("compress", c="demo:lora", l=LAYERS))
    app.selectbox(key="hold_out").set_value("task").run()
    app = computed(app)
    assert "With its task held out of the basis the median model loses" in told(app)
    assert "Sharing beats each model's own SVD at" in told(app)


def test_whole_networks_are_compressed_too(open_page: Open):
    app = computed(open_page("compress", c="demo:finetuned", l=LAYERS))
    assert "one more model costs" in told(app)


def test_the_folder_is_written_below_a_root_and_opens(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UWS_ROOTS", str(tmp_path))
    app = computed(open_page("compress", c="demo:lora", l=LAYERS))
    app.text_input(key="compress.folder").set_value("../outside").run()
    app.button(key="compress.write").click().run()
    assert "outside the folders" in told(app)
    app.text_input(key="compress.folder").set_value("small").run()
    app.button(key="compress.write").click().run()
    after_work(app, lambda: "small is written" in told(app))
    opened = uws.open_compressed(tmp_path / "small")
    assert len(opened.members) == 40
    assert [plan.layer.name for plan in opened.plans] == LAYERS
    app.button(key="compress.open").click().run()
    app = computed(app)
    assert "40 models in 2 layers, revision 1, basis 1" in told(app)
    app.selectbox(key="rebuild.member").set_value("parity-0").run()
    app.button(key="rebuild.write").click().run()
    after_work(app, lambda: "parity-0 is rebuilt" in told(app))
    assert (tmp_path / "small-rebuilt" / "parity-0" / "adapter_model.safetensors").is_file()
