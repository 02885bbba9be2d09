"""Collections from the Hub, from an upload, and from saved collections, on the collection page without a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import save
from streamlit.testing.v1 import AppTest

from tests.hub_fixtures import files, standin
from tests.hub_standin import HubStandIn
from tests.planted import noise
from tests.ui.conftest import Open
from tests.ui.test_pages import answer, told
from uws_core.analysis import cost
from uws_core.collection import collect
from uws_core.nouns.hub import PRESETS
from uws_core.store.saved_collections import read_saved, saved_text
from uws_core.ui import grams, saved_collections
from uws_core.ui.collection import places

__all__ = ["standin"]


@pytest.fixture
def lab(standin: HubStandIn) -> HubStandIn:
    """Five fine-tuned models of one base, one of them gated."""
    tags = ["base_model:finetune:lab/base", "license:mit"]
    for i in range(5):
        standin.add(f"lab/task{i}", files(i), tags=tags, downloads=10 * i, gated=i == 0)
    standin.add("lab/base", files(99))
    return standin


def search(app: AppTest, query: str) -> AppTest:
    app.text_area(key="hub.query").set_value(query).run()
    return app.button(key="hub.search").click().run()


def finish(app: AppTest) -> AppTest:
    """Wait for what is under way, as the page's own timer does in a browser."""
    for job in grams.jobs().jobs():
        grams.jobs().wait(job.key, seconds=20)
    return app.run()


def found(app: AppTest) -> list[str]:
    frame = next((one.value for one in app.dataframe if "access" in one.value.columns), None)
    return [] if frame is None else list(frame["model"])


# --- the Hub


@pytest.mark.usefixtures("own_shelf")
def test_nothing_is_asked_of_the_hub_before_a_search(open_page: Open, lab: HubStandIn) -> None:
    app = open_page("collection")
    assert not app.exception
    app.selectbox(key="hub.preset").select(next(iter(PRESETS))).run()
    assert app.text_area(key="hub.query").value == next(iter(PRESETS.values()))
    assert not lab.quiet()


@pytest.mark.usefixtures("own_shelf")
def test_a_query_is_a_table_first_and_then_a_collection(open_page: Open, lab: HubStandIn) -> None:
    app = search(open_page("collection"), "finetunes:lab/base limit:4")
    assert found(app) == ["lab/task4", "lab/task3", "lab/task2", "lab/task1"]
    assert "4 models, and more than the limit of 4" in told(app)
    assert not lab.calls("*resolve*")
    assert app.text_input(key="hub.base").placeholder == "lab/base"
    app.text_input(key="hub.base").set_value("lab/base").run()
    app.button(key="hub.open").click().run()
    app = finish(app)
    assert "4 models of one architecture, 3 layers comparable" in answer(app)
    assert str(app.query_params["c"]).startswith("saved:finetunes-lab-base-limit-4-")
    app.switch_page("pages/spectrum.py").run()
    assert "4 models give at most 3 directions" in answer(app)


@pytest.mark.usefixtures("own_shelf")
def test_what_was_opened_from_the_hub_is_there_after_a_restart(
    open_page: Open, lab: HubStandIn, restart: Callable[[], None]
) -> None:
    app = search(open_page("collection"), "lab/task1 lab/task2 lab/gone")
    assert not app.exception
    assert "lab/gone" in {row for one in app.dataframe if "what" in one.value.columns for row in one.value["what"]}
    app.button(key="hub.open").click().run()
    link = str(finish(app).query_params["c"])
    # The branches move on; the collection does not.
    commit = lab.repos["lab/task1"].refs["main"]
    lab.add("lab/task1", files(50))
    restart()
    app = open_page("collection", c=link)
    assert "2 models of one architecture" in answer(app)
    kept = read_saved(saved_collections.path_of(link) or Path())
    assert kept.models["task1"].commit == commit
    assert kept.query == "lab/task1 lab/task2 lab/gone"


@pytest.mark.usefixtures("own_shelf")
@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit:many", "limit: expected a whole number, found 'many'"),
        ("license:mit", "asks for nothing"),
        ("what is this", "names no repository"),
    ],
)
def test_a_query_that_is_none_says_why(open_page: Open, lab: HubStandIn, query: str, says: str) -> None:
    app = search(open_page("collection"), query)
    assert says in told(app).replace("\\", "")
    assert not lab.quiet()
    assert "40 models of one architecture" in answer(app)


@pytest.mark.usefixtures("own_shelf")
def test_models_that_cannot_be_compared_say_why_and_nothing_is_kept(open_page: Open, lab: HubStandIn) -> None:
    app = search(open_page("collection"), "lab/task0 lab/task1")
    app.button(key="hub.open").click().run()
    words = told(finish(app)).replace("\\", "")
    assert "one model (task1) and nothing to compare it with" in words
    assert "lab/task0: gated" in words
    assert saved_collections.listed() == ()


@pytest.mark.usefixtures("own_shelf")
def test_a_machine_without_a_network_says_so(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    app = search(open_page("collection"), "lab/*")
    assert "cannot be reached" in told(app)
    assert "40 models of one architecture" in answer(app)


# --- saved collections


@pytest.mark.usefixtures("own_shelf")
def test_a_collection_is_saved_opened_and_removed(open_page: Open, models: Path) -> None:
    app = open_page("collection")
    app.text_input(key="collection.path").set_value(str(models)).run()
    app.button(key="collection.open").click().run()
    name = next(one for one in app.text_input if str(one.key).startswith("save.name"))
    name.set_value("my eight").run()
    app.button(key="save.keep").click().run()
    assert str(app.query_params["c"]).startswith("saved:my-eight-")
    assert "8 models of one architecture" in answer(app)
    link = str(app.query_params["c"])
    assert app.selectbox(key=f"saved.kept.{link}").value == link
    app.button(key="saved.remove").click().run()
    assert saved_collections.listed() == ()
    assert "40 models of one architecture" in answer(app)
    assert "Nothing is saved yet" in told(app)


def test_some_models_make_a_collection_of_their_own(models: Path) -> None:
    whole = collect(models)
    part = places.subset(whole, (1, 3), "two")
    assert (part.labels, part.table["colour"]) == (("m1", "m3"), ("red", "red"))
    assert part.fingerprint == collect([models / "m1.safetensors", models / "m3.safetensors"]).fingerprint
    assert part.fingerprint != whole.fingerprint


@pytest.mark.usefixtures("own_shelf")
@pytest.mark.parametrize("c", ["saved:x", "saved:../../etc/passwd", "saved:"])
def test_a_hostile_id_is_the_first_collection(open_page: Open, c: str) -> None:
    app = open_page("collection", c=c)
    assert not app.exception
    assert "40 models of one architecture" in answer(app)


# --- uploads


def model(seed: int) -> bytes:
    return save({"w": noise(6, 4, seed=seed).astype("float32")})


@pytest.mark.usefixtures("own_shelf")
def test_uploaded_models_are_a_collection(open_page: Open) -> None:
    app = open_page("collection")
    app.file_uploader(key="upload.files").set_value(
        [(f"m{i}.safetensors", model(i), "application/octet-stream") for i in range(3)]
    ).run()
    app.text_input(key="upload.name").set_value("mine").run()
    app.button(key="upload.open").click().run()
    assert "3 models of one architecture, 1 layer comparable" in answer(app)
    assert str(app.query_params["c"]).startswith("saved:mine-")


@pytest.mark.usefixtures("own_shelf")
@pytest.mark.parametrize(
    ("uploaded", "says"),
    [
        ([("a.safetensors", b"garbage")], "no model that can be read"),
        ([("a.safetensors", b"x"), ("b.uws.toml", b"")], "upload that one by itself"),
        ([("b.uws.toml", b"= 3")], "no TOML"),
        ([("b.uws.toml", b"\xff\xfe")], "is no text"),
        (
            [
                (
                    "b.uws.toml",
                    b'format = 1\nname = "x"\n[[model]]\nlabel = "a"\npath = "/etc/passwd"\ncommit = "%s"'
                    % (b"0" * 40),
                )
            ],
            "lies outside the folders that may be read",
        ),
    ],
)
def test_an_upload_that_is_none_says_why_and_nothing_is_kept(
    open_page: Open, uploaded: list[tuple[str, bytes]], says: str
) -> None:
    app = open_page("collection")
    app.file_uploader(key="upload.files").set_value([(*one, "application/octet-stream") for one in uploaded]).run()
    app.button(key="upload.open").click().run()
    assert says in told(app).replace("\\", "")
    assert saved_collections.listed() == ()
    assert "40 models of one architecture" in answer(app)


@pytest.mark.usefixtures("own_shelf")
def test_a_collection_file_from_another_machine_opens(open_page: Open, lab: HubStandIn) -> None:
    made = collect(["lab/task1", "lab/task2", "lab/task3"], name="from a friend")
    app = open_page("collection")
    text = saved_text(made).encode()
    app.file_uploader(key="upload.files").set_value([("friend.uws.toml", text, "application/toml")]).run()
    app.button(key="upload.open").click().run()
    assert "3 models of one architecture" in answer(app)
    assert collect(saved_collections.path_of(str(app.query_params["c"])) or "").fingerprint == made.fingerprint


# --- what a layer costs


@pytest.mark.usefixtures("own_shelf")
def test_a_large_layer_on_the_hub_is_not_read_before_somebody_says_so(
    open_page: Open, standin: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    # Over a connection this slow, the layers take ten minutes.
    monkeypatch.setattr(cost, "NETWORK", 1000.0)
    for i in range(4):
        standin.add(f"lab/m{i}", files(200 + i, shape=(300, 200)))
    app = search(open_page("collection"), "lab/*")
    app.button(key="hub.open").click().run()
    app = finish(app)
    assert "moves 2.75 MiB (2.75 MiB of it from the Hub)" in told(app)
    moved = standin.bytes_sent("/blob/*")
    app.switch_page("pages/spectrum.py").run()
    assert "from the Hub" in told(app)
    assert standin.bytes_sent("/blob/*") == moved
    app.button(key="scan").click().run()
    app = finish(app)
    assert "4 models give at most 3 directions" in answer(app)
    # The beginning of the first layer came with the headers, and was kept.
    assert 4 * (300 * 200 * 4 - 65536) < standin.bytes_sent("/blob/*") - moved < 4 * 300 * 200 * 4


@pytest.mark.usefixtures("own_shelf")
def test_whole_models_are_downloaded_when_somebody_asks(open_page: Open, lab: HubStandIn) -> None:
    app = search(open_page("collection"), "lab/task1 lab/task2")
    app.button(key="hub.open").click().run()
    app = finish(app)
    app.button(key="download.start").click().run()
    app = finish(app)
    assert "Download complete" in told(app)
    moved = len(lab.quiet())
    app.switch_page("pages/spectrum.py").run()
    assert "2 models give at most 1 direction" in answer(app)
    assert len(lab.quiet()) == moved


def test_the_about_page_names_the_hub_and_never_the_token(
    open_page: Open, standin: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts() -> str:
        return told(open_page("about")).replace("\\", "")

    assert standin.url in facts()
    assert "none, as UWS_HUB_KEEP says" in facts()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("UWS_HUB_KEEP", "1GiB")
    assert "set in HF_TOKEN" in facts()
    assert "of at most 1 GiB" in facts()
    assert "hf_secret" not in facts()
    monkeypatch.setenv("UWS_HUB_KEEP", "plenty")
    assert "UWS_HUB_KEEP" in facts()
    assert not standin.quiet()
