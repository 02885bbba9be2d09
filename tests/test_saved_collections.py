"""Collection files: what is written is read back anywhere, and no text is more than a message."""

import json
import math
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uws_core.collection import collect
from uws_core.errors import ExportError, UnreadableFile
from uws_core.nouns.models import Collection, LayerKey, LeftOut, ModelRef
from uws_core.store.saved_collections import parse_saved, read_saved, save, saved_text

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXT = st.text(max_size=20)
CELL = TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans() | st.none()


def collection(labels: tuple[str, ...] = ("a", "b"), **known: object) -> Collection:
    refs = tuple(ModelRef(f"lab/m{i}", COMMIT, "x.safetensors" if i else "") for i in range(len(labels)))
    kept = {"fingerprint": "f00d", "layers": (LayerKey("w", (2, 2)),)} | known
    return Collection(name=kept.pop("name", "mine"), refs=refs, labels=labels, **kept)


@st.composite
def collections(draw: st.DrawFn) -> Collection:
    labels = tuple(draw(st.lists(TEXT, min_size=1, max_size=4, unique=True)))
    columns = draw(st.dictionaries(TEXT, st.tuples(*[CELL] * len(labels)), max_size=3))
    notes = tuple(LeftOut(*draw(st.tuples(TEXT, TEXT))) for _ in range(draw(st.integers(0, 2))))
    return collection(labels, table=columns, name=draw(TEXT), left_out=notes)


# --- text and back


@given(collections(), TEXT)
def test_what_is_written_is_read_back(made: Collection, query: str):
    found = parse_saved(saved_text(made, query=query), beside=Path("/"))
    assert (found.name, found.query, found.fingerprint) == (made.name, query, made.fingerprint)
    assert tuple(found.models) == made.labels
    assert tuple(found.models.values()) == made.refs
    assert found.left_out == made.left_out
    # NaN is no value that equals itself, and 1 equals True; the texts tell them apart.
    assert repr(found.table) == repr(dict(made.table))


def test_the_file_reads_like_one_a_person_wrote():
    made = collection(table={"task": ('a "b"\n', None), "seed": (0, 1), "good": (True, None), "loss": (0.5, math.inf)})
    text = saved_text(made, query="lab/*")
    assert text.splitlines() == [
        "# 2 models of one architecture; no weights. Open it with uws_core.collect, or on the page.",
        "format = 1",
        'name = "mine"',
        'fingerprint = "f00d"',
        'query = "lab/*"',
        'columns = ["task", "seed", "good", "loss"]',
        "",
        "[[model]]",
        'label = "a"',
        'hub = "lab/m0"',
        f'commit = "{COMMIT}"',
        'attributes = { "task" = "a \\"b\\"\\n", "seed" = 0, "good" = true, "loss" = 0.5 }',
        "",
        "[[model]]",
        'label = "b"',
        'hub = "lab/m1"',
        f'commit = "{COMMIT}"',
        'part = "x.safetensors"',
        'attributes = { "seed" = 1, "loss" = inf }',
    ]


@pytest.mark.parametrize("name", ["\x7f", "\ud800", "\x00\x1f", "\u2028", "'''", '"""', "\\u0041", "#", "😀"])
def test_every_character_survives(name: str):
    found = parse_saved(saved_text(collection(name=name)), beside=Path("/"))
    assert found.name == name.encode("utf-8", "replace").decode()


def test_a_column_that_nobody_fills_is_still_a_column():
    found = parse_saved(saved_text(collection(table={"empty": (None, None)})), beside=Path("/"))
    assert found.table == {"empty": (None, None)}


# --- where models lie


def test_models_beside_the_file_are_named_relative_to_it_and_others_whole(tmp_path: Path):
    refs = (ModelRef(str(tmp_path / "runs" / "m.safetensors"), COMMIT), ModelRef("/elsewhere/m", COMMIT))
    made = Collection(name="x", refs=refs, labels=("a", "b"), layers=(), fingerprint="")
    text = saved_text(made, beside=tmp_path)
    assert [row.get("path") for row in tomllib.loads(text)["model"]] == ["runs/m.safetensors", "/elsewhere/m"]
    moved = parse_saved(text, beside=Path("/other/place")).models
    assert [ref.repo for ref in moved.values()] == ["/other/place/runs/m.safetensors", "/elsewhere/m"]


def test_a_built_in_collection_is_named_from_inside_the_package():
    made = collect("demo:finetuned")
    text = saved_text(made)
    assert str(Path.home()) not in text
    assert tomllib.loads(text)["model"][0]["shipped"].startswith("zoo/data/finetuned/")
    found = parse_saved(text, beside=Path("/nowhere"))
    assert tuple(found.models.values()) == made.refs
    assert found.base == made.base


# --- files


def test_a_saved_file_appears_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "mine.uws.toml"
    save(collection(), path, query="lab/*")
    assert read_saved(path).query == "lab/*"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.uws.toml"]
    with pytest.raises(ExportError, match=r"cannot be saved: (No such file|Not a directory)"):
        save(collection(), tmp_path / "none" / "mine.uws.toml")
    path.chmod(0o444)
    before = path.read_text()
    (tmp_path / "wall").mkdir()
    with pytest.raises(ExportError):
        save(collection(name="other"), tmp_path / "wall")
    assert path.read_text() == before


def broken(change: dict[str, object], row: dict[str, object] | None = None) -> str:
    """A collection file with some keys changed; None takes a key away."""
    model = {"label": "a", "hub": "lab/m", "commit": COMMIT} | (row or {})
    cells = [f"{key} = {json.dumps(value)}" for key, value in model.items() if value is not None]
    head = {"format": 1, "name": "x"} | change
    lines = [f"{key} = {json.dumps(value)}" for key, value in head.items() if value is not None]
    return "\n".join([*lines, "[[model]]", *cells])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "format is 'None', expected 1; a later version"),
        ("format = 2", "format is '2', expected 1"),
        ("= nonsense", "no TOML: Invalid"),
        ("x = " + "[" * 100_000, "no TOML: "),
        ("x = " + "9" * 5000, "no TOML: .*4300 digits"),
        ("x = 0x" + "f" * 5000, "format is 'None'"),
        ("format = 0x" + "f" * 5000, "format is a number of thousands of digits, expected 1"),
        ("x = 2024-13-45", "no TOML: "),
        ("format = 1\nname = 'x'", "0 models with 0 different labels"),
        (broken({"name": 3}), "the file: expected a text 'name', found '3'"),
        (broken({"name": None}), "the file: expected a text 'name', found 'None'"),
        (broken({"columns": 3}), "columns is no list of texts"),
        (broken({"left_out": 3}), "left_out is no list of tables"),
        (broken({}, {"label": None}), "model 1: expected a text 'label'"),
        (broken({}, {"hub": None}), r"model 1: expected one of hub, shipped and path, found none"),
        (broken({}, {"path": "x"}), r"model 1: expected one of hub, shipped and path, found \['hub', 'path'\]"),
        (broken({}, {"commit": "main"}), "model 1: expected a commit of 40 hexadecimal digits, found 'main'"),
        (broken({}, {"hub": "/etc/passwd"}), "model 1: '/etc/passwd' is no repository name"),
        (broken({}, {"hub": None, "shipped": "../../x"}), r"model 1: '\.\./\.\./x' is no path of a model"),
        (broken({}, {"hub": None, "path": "a\0b"}), "model 1: 'a.x00b' is no path of a model"),
        (broken({}) + "\nattributes = {x = 0x" + "f" * 5000 + "}", "model 1: attributes are texts, numbers"),
        (broken({}, {"label": None}) + "\nlabel = 0x" + "f" * 5000, "model 1: expected a text 'label', found a number"),
        (broken({}, {"attributes": 3}), "model 1: attributes are texts, numbers"),
        (broken({}) + "\n[model.attributes]\nx = [1]", "model 1: attributes are texts, numbers"),
        (broken({}) + "\n" + broken({}).split("\n", 2)[2], "2 models with 1 different labels"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str):
    with pytest.raises(UnreadableFile, match=message):
        parse_saved(text, beside=Path("/"))


@given(st.text(max_size=200) | st.text(alphabet="[]=\"'.#\nmodelhubcit0123456789 ", max_size=200))
def test_any_text_is_a_file_or_a_message(text: str):
    with suppress(UnreadableFile):
        parse_saved(text, beside=Path("/"))


@given(st.data())
def test_a_file_with_a_changed_stretch_is_a_file_or_a_message(data: st.DataObject):
    text = saved_text(collection(table={"seed": (1, 2)}), query="lab/*")
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    with suppress(UnreadableFile):
        parse_saved(text[:start] + data.draw(TEXT) + text[stop:], beside=Path("/"))


def test_files_that_are_none_are_named(tmp_path: Path):
    with pytest.raises(UnreadableFile, match=r"none\.uws\.toml: no collection file"):
        read_saved(tmp_path / "none.uws.toml")
    (tmp_path / "x.uws.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UnreadableFile, match=r"x\.uws\.toml: no collection file: 'utf-8'"):
        read_saved(tmp_path / "x.uws.toml")
    with (tmp_path / "big.uws.toml").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(UnreadableFile, match="at most 50,000,000 bytes"):
        read_saved(tmp_path / "big.uws.toml")
