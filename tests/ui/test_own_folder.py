"""A folder of one's own: opened by its path, kept over restarts, and every mistake answered in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from tests.planted import noise
from tests.ui.conftest import Open
from tests.ui.test_pages import answer, chosen, told
from uws_core.ui import catalogue, grams


def open_folder(app: AppTest, path: Path | str) -> AppTest:
    """Type a path into the box and press the button beside it."""
    app.text_input(key="collection.path").set_value(str(path)).run()
    app.button(key="collection.open").click().run()
    return app


def left_out_of(app: AppTest) -> dict[str, str]:
    """What the page lists as left out, with the reasons."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    tables = [table.value for table in app.dataframe if {"what", "reason"} <= set(table.value.columns)]
    return dict(zip(tables[-1]["what"], tables[-1]["reason"], strict=True)) if tables else {}


def test_a_folder_is_opened_read_and_linked_to(open_page: Open, models: Path, restart: Callable[[], None]) -> None:
    app = open_folder(open_page("collection"), models)
    assert "8 models of one architecture, 2 layers comparable, nothing left out" in answer(app)
    link = str(app.query_params["c"])
    assert link.startswith("folder:my-models-")
    app.switch_page("pages/spectrum.py").run()
    assert "8 of 8 models" in chosen(app)
    assert "these models" in answer(app)
    # As after a restart of the server: nothing is left but the store.
    restart()
    assert "these models" in answer(open_page("spectrum", c=link))


def test_the_latest_folders_are_remembered_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("UWS_ROOTS", str(tmp_path))
    before, ids = catalogue.Catalogue(), []
    # By name the last one comes last: neither the alphabet nor a digest may decide who is forgotten.
    for i in range(26):
        folder = tmp_path / f"f{i:02d}"
        folder.mkdir()
        for name in ("a", "b"):
            save_file({"w": noise(4, 4, seed=i).astype("float32")}, folder / f"{name}.safetensors")
        ids.append(before.add(str(folder)))
    assert [one for one in catalogue.Catalogue().ids() if one in ids] == ids[-24:]


def test_a_link_is_no_way_around_the_roots(
    open_page: Open, models: Path, monkeypatch: pytest.MonkeyPatch, restart: Callable[[], None]
) -> None:
    link = open_folder(open_page("collection"), models).query_params["c"]
    monkeypatch.setenv("UWS_ROOTS", str(models.parent / "elsewhere"))
    restart()
    app = open_page("spectrum", c=link)
    assert "outside the folders this app may read" in told(app).replace("\\", "")
    app.button(key="way.Open the first built-in collection").click().run()
    assert "40 of 40 models" in chosen(app)


def test_a_changed_folder_is_read_again(open_page: Open, models: Path) -> None:
    app = open_folder(open_page("collection"), models)
    (models / "m7.safetensors").unlink()
    next(button for button in app.button if button.label == "Read again").click().run()
    assert "7 models of one architecture" in answer(app)


def _one_model(folder: Path) -> None:
    save_file({"w": noise(4, 4, seed=0).astype("float32")}, folder / "a.safetensors")


def _nothing_in_common(folder: Path) -> None:
    for i in range(3):
        save_file({f"w{i}": noise(4, 4 + i, seed=i).astype("float32")}, folder / f"{i}.safetensors")


def _no_safetensors(folder: Path) -> None:
    for i in range(3):
        (folder / f"{i}.safetensors").write_bytes(b"not a model at all")


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (lambda folder: None, "no model that can be read"),
        (_one_model, "one model \\(a\\) and nothing to compare it with"),
        (_nothing_in_common, "no matrix that all of them have|no model|nothing"),
        (_no_safetensors, "no model that can be read"),
    ],
    ids=["empty", "one model", "no common layer", "no safetensors"],
)
def test_a_folder_that_cannot_be_compared_says_why(
    open_page: Open, tmp_path: Path, fill: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fill(folder)
    app = open_folder(open_page("collection"), folder)
    words = told(app).replace("\\", "")
    assert [each for each in says.replace("\\", "").split("|") if each in words], words
    assert "40 models of one architecture" in answer(app)


@pytest.mark.parametrize("path", ["/etc", "..", "no such folder", "", "a\x00b", "x" * 9000])
def test_a_path_that_cannot_be_opened_says_why(open_page: Open, path: str) -> None:
    app = open_folder(open_page("collection"), path)
    words = told(app).replace("\\", "")
    assert [each for each in ("outside the folders", "there is nothing", "Type the path") if each in words], words
    assert "40 models of one architecture" in answer(app)


def test_damaged_models_are_left_out_by_name_and_the_rest_works(open_page: Open, models: Path) -> None:
    whole = (models / "m0.safetensors").read_bytes()
    (models / "m1.safetensors").write_bytes(whole[: len(whole) // 2])
    bad = np.full((12, 6), np.nan, dtype=np.float32)
    save_file({"blocks.0.up.weight": bad, "blocks.1.up.weight": bad}, models / "m2.safetensors")
    (models / "m9.safetensors").symlink_to("/etc/hostname")
    app = open_folder(open_page("collection"), models)
    assert "7 models of one architecture" in answer(app)
    left_out = next(table.value for table in app.dataframe if "reason" in table.value.columns)
    assert {"m1", "m9"} <= set(left_out["what"])
    app.switch_page("pages/spectrum.py").run()
    assert "these models" in answer(app)
    assert "m2, 0.up" in left_out_of(app)


def test_models_that_are_not_finite_in_a_layer_are_named_on_every_page(open_page: Open, models: Path) -> None:
    bad = np.full((12, 6), np.nan, dtype=np.float32)
    good = noise(1, 72, seed=9).reshape(12, 6).astype("float32")
    save_file({"blocks.0.up.weight": bad, "blocks.1.up.weight": bad}, models / "m2.safetensors")
    save_file({"blocks.0.up.weight": bad, "blocks.1.up.weight": good}, models / "m5.safetensors")
    link = open_folder(open_page("collection"), models).query_params["c"]
    # Lineage and evidence have no sides.
    sides = [(page, axis) for page in ("spectrum", "angles", "reconstruction") for axis in ("models", "in")]
    for page, axis in [*sides, ("lineage", "models"), ("evidence", "models")]:
        layer = "blocks.0.up.weight" if page in ("spectrum", "angles") else "sum"
        shown = left_out_of(open_page(page, c=link, axis=axis, layer=layer, group="colour"))
        assert "weights are NaN or infinite" in shown.get("m5, 0.up", ""), (page, axis, shown)
        assert {"m2, 0.up", "m2, 2 layers"} & set(shown), (page, axis)


def test_models_left_out_of_several_layers_are_one_line_each(open_page: Open, models: Path) -> None:
    bad = np.full((12, 6), np.nan, dtype=np.float32)
    for name in ("m2", "m3"):
        save_file({"blocks.0.up.weight": bad, "blocks.1.up.weight": bad}, models / f"{name}.safetensors")
    link = open_folder(open_page("collection"), models).query_params["c"]
    for pool in ("sum", "each", "mean"):
        app = open_page(c=link, layer=pool)
        assert left_out_of(app)["m2, 2 layers"].startswith("0.up, 1.up: 72 of 72 weights are NaN or infinite")
        assert len(left_out_of(app)) == 2
    assert list(left_out_of(open_page(c=link, layer="sum", m=["m0", "m1", "m3", "m4"]))) == ["m3, 2 layers"]


def test_what_single_precision_cannot_tell_is_computed_in_double_by_a_button(open_page: Open, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    for i, row in enumerate(noise(9, 300, seed=1)):
        save_file({"w": (1e-25 * row).reshape(15, 20).astype("float32")}, folder / f"m{i}.safetensors")
    link = open_folder(open_page("collection"), folder).query_params["c"]
    app = open_page(c=link)
    assert "One cannot tell" in answer(app)
    assert "below the rounding of single precision" in answer(app)
    assert {each.value for each in app.metric if each.label.startswith("z of")} <= {"-"}
    app.button(key="double").click().run()
    assert "No more than chance" in answer(app)
    assert "double" not in [each.key for each in app.button]
    assert "No more than chance" in answer(open_page(c=link, precision="double"))


def test_a_model_that_bears_a_centre_s_name_is_never_offered_as_the_centre(open_page: Open, models: Path) -> None:
    (models / "m7.safetensors").rename(models / "base.safetensors")
    (models / "m6.safetensors").rename(models / "mean.safetensors")
    (models / "models.csv").unlink()
    link = open_folder(open_page("collection"), models).query_params["c"]
    app = open_page(c=link, about="base")
    assert "what distinguishes these models" in answer(app)
    centre = next(each for each in app.selectbox if each.label == "Centre")
    assert len(centre.options) == 2 + 6


@pytest.mark.parametrize("asks", [False, True])
def test_a_large_folder_is_read_by_a_job(
    open_page: Open, models: Path, monkeypatch: pytest.MonkeyPatch, asks: bool
) -> None:
    monkeypatch.setattr(grams, "INLINE_SECONDS", 0.0)
    monkeypatch.setattr(grams, "ASK_SECONDS", 0.0 if asks else 60.0)
    # Another content than in other tests, or the shared store would have it.
    for file in models.glob("*.safetensors"):
        save_file({"w": noise(6, 5, seed=hash(file.name) % 1000 + asks).astype("float32")}, file)
    app = open_folder(open_page("collection"), models)
    app.switch_page("pages/spectrum.py").run()
    if asks:
        assert "has not been read" in told(app) or "have not been read" in told(app)
        assert not answer(app)
        app.button(key="scan").click().run()
    for job in grams.jobs().jobs():
        grams.jobs().wait(job.key, seconds=20)
    assert "these models" in answer(app.run())
