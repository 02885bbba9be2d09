"""What the app keeps of people's own: collections under safe ids, uploads by content, edits by fingerprint."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from tests.planted import noise
from uws_core.collection import collect
from uws_core.errors import ExportError, UnreadableFile
from uws_core.nouns.models import Collection
from uws_core.store.saved_collections import saved_text
from uws_core.ui import saved_collections
from uws_core.ui.uploads import planned

pytestmark = pytest.mark.usefixtures("results_folder")


def weights(seed: int) -> bytes:
    return save({"w": noise(6, 4, seed=seed).astype("float32")})


@pytest.fixture
def opened(models: Path) -> Collection:
    return collect(models)


def test_nothing_is_kept_at_first(results_folder: Path):
    assert saved_collections.listed() == ()
    assert saved_collections.folder().parent == results_folder.parent
    assert not saved_collections.folder().exists()
    assert saved_collections.path_of("saved:x") is None


def test_a_kept_collection_is_listed_newest_first_by_its_own_name(opened: Collection):
    first = saved_collections.keep(replace(opened, name="ähm: (1)"), query="lab/*")
    second = saved_collections.keep(replace(opened, name="other"))
    for age, name in enumerate((first, second)):
        path = saved_collections.path_of(name)
        assert path is not None
        os.utime(path, (1000 + age, 1000 + age))
    assert [(one.id, one.title) for one in saved_collections.listed()] == [(second, "other"), (first, "ähm: (1)")]
    assert collect(saved_collections.path_of(first) or "").fingerprint == opened.fingerprint
    assert stat.S_IMODE(saved_collections.folder().stat().st_mode) == 0o700


def test_the_same_collection_kept_twice_is_one(opened: Collection):
    assert saved_collections.keep(opened) == saved_collections.keep(opened)
    assert len(saved_collections.listed()) == 1
    assert saved_collections.keep(replace(opened, fingerprint="0" * 32)) != saved_collections.keep(opened)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_any_name_gives_a_safe_id(name: str):
    made = saved_collections.id_for(name)
    stem = made.removeprefix(saved_collections.SAVED)
    assert saved_collections._STEM.fullmatch(stem)
    assert made == saved_collections.id_for(name) != saved_collections.id_for(name, "other")


@pytest.mark.parametrize("name", ["saved:../x", "saved:", "saved:/etc/passwd", "x", "saved:.hidden"])
def test_an_id_is_looked_up_and_never_a_path(opened: Collection, name: str):
    saved_collections.keep(opened)
    (saved_collections.folder() / ".hidden.uws.toml").write_text("")
    (saved_collections.folder().parent / "x.uws.toml").write_text("")
    assert saved_collections.path_of(name) is None
    saved_collections.remove(name)
    assert (saved_collections.folder().parent / "x.uws.toml").exists()


def test_a_collection_file_from_elsewhere_is_kept_or_refused(opened: Collection):
    name = saved_collections.keep_text("from a friend.uws.toml", saved_text(opened))
    assert name.startswith("saved:from-a-friend-")
    assert collect(saved_collections.path_of(name) or "").labels == opened.labels
    with pytest.raises(UnreadableFile, match="no TOML"):
        saved_collections.keep_text("bad.uws.toml", "= 3")
    assert len(saved_collections.listed()) == 1


def lying(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_uploads_lie_in_a_folder_named_by_their_content():
    files = [("a.safetensors", weights(1)), ("../../b.safetensors", weights(2)), ("c/a.safetensors", weights(3))]
    place = saved_collections.keep_uploads(planned(files))
    names = ["a/a.safetensors", "b/b.safetensors", "a-2/a-2.safetensors"]
    assert lying(place) == dict(zip(names, [data for _, data in files], strict=True))
    assert place.parent == saved_collections.uploads()
    assert saved_collections.keep_uploads(planned(files)) == place
    assert saved_collections.keep_uploads(planned(files[:2])) != place
    assert len(list(saved_collections.uploads().iterdir())) == 2


@pytest.mark.parametrize("name", ["", ".safetensors", "..", "ü.safetensors", "a\\b.safetensors", "x" * 500, "CON\0"])
def test_an_uploaded_name_is_made_plain(name: str):
    place = saved_collections.keep_uploads(planned([(name, b"x")]))
    assert place.parent == saved_collections.uploads()
    assert list(lying(place).values()) == [b"x"]


def test_removing_a_collection_takes_its_uploads_unless_another_names_them():
    place = saved_collections.keep_uploads(planned([(f"m{i}.safetensors", weights(i)) for i in range(3)]))
    both = collect(place, name="both")
    first, second = saved_collections.keep(both), saved_collections.keep(replace(both, name="again"))
    saved_collections.remove(first)
    assert place.exists()
    saved_collections.remove(second)
    assert not place.exists()
    assert saved_collections.listed() == ()


def test_edits_follow_the_models_and_not_their_place(opened: Collection, models: Path, tmp_path: Path):
    assert saved_collections.edited(opened) is opened
    changed = replace(opened, table={"mood": tuple("abcdefgh"), "n": (1, None, 3, 4, 5, 6, 7, 8)})
    saved_collections.keep_edits(changed)
    assert saved_collections.has_edits(opened)
    moved = models.rename(tmp_path / "elsewhere")
    again = saved_collections.edited(collect(moved))
    assert dict(again.table) == dict(changed.table)
    saved_collections.forget_edits(again)
    assert saved_collections.edited(collect(moved)).table["colour"] == ("red",) * 4 + ("blue",) * 4


def test_edits_of_other_models_do_not_fit(opened: Collection):
    saved_collections.keep_edits(replace(opened, table={"mood": tuple("abcdefgh")}))
    fewer = replace(opened, refs=opened.refs[:2], labels=opened.labels[:2], table={})
    assert saved_collections.edited(fewer) is fewer
    (edits,) = (saved_collections.folder() / "edits").iterdir()
    edits.write_text("damaged")
    assert saved_collections.edited(opened) is opened


def test_a_shelf_that_cannot_be_made_says_so(opened: Collection, results_folder: Path):
    saved_collections.folder().write_text("a file")
    for put in (
        lambda: saved_collections.keep(opened),
        lambda: saved_collections.keep_edits(opened),
        lambda: saved_collections.keep_uploads(planned([("a", b"")])),
    ):
        with pytest.raises(ExportError, match="cannot be kept"):
            put()
    assert saved_collections.listed() == ()
