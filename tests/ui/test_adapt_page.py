"""The adapt page: a reason before training, the verdict after it, a job that stops and goes on, logs from elsewhere."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import Open, after_work, drawn

PATIENCE = 90.0


def told(app: AppTest) -> str:
    assert not app.exception, [each.stack_trace for each in app.exception]
    texts = (*app.subheader, *app.markdown, *app.caption, *app.error, *app.warning)
    return "\n".join(each.value for each in texts).replace("\\", "")


def answer(app: AppTest) -> str:
    assert not app.exception, [each.stack_trace for each in app.exception]
    return str(app.subheader[0].value)


@pytest.fixture
def own_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the logs of this test alone."""
    monkeypatch.setattr("uws_core.ui.adapt.data.default_path", lambda: tmp_path / "uws")
    return tmp_path / "uws-trainings"


def test_before_training_the_gradient_is_judged_and_the_cost_is_said(open_page: Open, own_trainings: Path) -> None:
    app = open_page("adapt", c="demo:lora")
    assert "on `rotated`: the shared subspace holds " in answer(app)
    assert "48 trainings of 336 steps take about 3.2 min on one core." in told(app)
    assert "36 models of other tasks; the models of rotated are held out" in told(app)
    assert len(drawn(app)) == 1
    app.number_input(key="seeds").set_value(5).run()
    app.toggle(key="morerows").set_value(True).run()
    assert "90 trainings of 336 steps" in told(app)


def test_a_training_shows_its_verdict_and_its_adapter(
    open_page: Open, own_trainings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uws_core.ui.adapt.controls.DEFAULT_ROWS", ("head only", "shared", "random"))
    for module in ("controls", "data"):
        monkeypatch.setattr(f"uws_core.ui.adapt.{module}.RATES", (0.1,))
    app = open_page("adapt", c="demo:lora", task="inverted", directions="3", steps="10")
    app.button(key="adapt.train").click().run()
    after_work(app, lambda: "a random basis on `inverted`" in answer(app) and "So far" not in answer(app))
    names = [trace["name"] for trace in drawn(app)[0]["data"]]
    assert any(name.startswith("head only") for name in names)
    assert {"shared", "random"} <= set(names)
    assert len(drawn(app)) == 4
    assert "the shared subspace holds" in told(app)
    # Another session finds what this one trained.
    again = open_page("adapt", c="demo:lora", task="inverted", directions="3", steps="10")
    assert answer(again) == answer(app)
    assert "The trained head goes along" in told(again)


def test_a_stopped_training_goes_on(open_page: Open, own_trainings: Path) -> None:
    app = open_page("adapt", c="demo:lora", task="shuffled", steps="2000")
    app.button(key="adapt.train").click().run()
    end = time.monotonic() + PATIENCE
    stop = [each for each in app.button if str(each.key).startswith("stop.")]
    while not stop and time.monotonic() < end:
        app.run()
        stop = [each for each in app.button if str(each.key).startswith("stop.")]
    while not list(own_trainings.glob("shuffled-*/adapt.json")):
        assert time.monotonic() < end, told(app)
        time.sleep(0.1)
    stop[0].click().run()
    after_work(app, lambda: any(each.key == "adapt.train" for each in app.button))
    assert app.button(key="adapt.train").label == "Go on"


def test_models_without_a_task_say_so_and_lead_on(open_page: Open) -> None:
    app = open_page("adapt", c="demo:scratch")
    assert answer(app) == "Nothing can be trained here on these models."
    app.button(key="way.Open the built-in adapters").click().run()
    assert "on `rotated`" in answer(app)


def test_a_log_trained_elsewhere_is_shown(open_page: Open, tmp_path: Path) -> None:
    assert answer(open_page("adapt", results="a training log")) == "Name the folder of a training log."
    pairs = [(task, row, seed) for task in ("t1", "t2") for row in ("shared", "random") for seed in range(3)]
    rows = [f"{task},{row},{seed},36,{(0.5 if row == 'shared' else 0.9) + seed / 100}" for task, row, seed in pairs]
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "runs.csv").write_text("task,row,seed,trainables,score\n" + "\n".join(rows) + "\n")
    app = open_page("adapt", results="a training log", log="log")
    assert answer(app) == (
        "Worse than a random basis on these tasks: the shared basis scores 0.510 against 0.910, over 2 tasks."
    )
    app.selectbox(key="logtask").set_value("t1").run()
    assert "on `t1`" in answer(app)
    assert "over 3 seeds" in answer(app)
    assert "outside the folders" in told(open_page("adapt", results="a training log", log="../.."))
    (tmp_path / "empty").mkdir()
    app = open_page("adapt", results="a training log", log="empty")
    assert answer(app) == "There is no training log to show."
    assert "expected runs.jsonl or runs.csv" in told(app)


def test_a_link_that_leads_outside_is_not_read(
    open_page: Open, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = tmp_path_factory.mktemp("away")
    (away / "runs.csv").write_text("row,seed,trainables,score\nshared,0,1,0.5\n")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "inside").symlink_to(away)
    assert "is a link that leads outside" in told(open_page("adapt", results="a training log", log="log"))


def test_the_adapter_is_a_peft_folder(own_trainings: Path) -> None:
    import uws_core as uws
    from uws_core.ui.adapt import data
    from uws_core.use.adapt import builtin
    from uws_core.use.adapt.options import AdaptOptions

    folder = own_trainings / "x"
    options = AdaptOptions(steps=3, rates=(0.1,), folder=folder)
    builtin.compare(uws.collect("demo:lora"), "prime", kept=2, rows=("shared",), options=options)
    for target in ("peft", "vllm"):
        with zipfile.ZipFile(io.BytesIO(data.adapter_bytes(folder, "prime", "shared", target))) as archive:
            assert sorted(archive.namelist()) == ["adapter_config.json", "adapter_model.safetensors"]
