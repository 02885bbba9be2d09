"""Models of the Hub as collections: the same numbers as from a folder, and a reason for whoever is left out."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.hub_fixtures import adapter, files, standin, tensors
from tests.hub_standin import HubStandIn
from uws_core.collection import collect
from uws_core.errors import Cancelled
from uws_core.nouns.hub import HubQuery
from uws_core.nouns.models import LeftOut, ModelRef
from uws_core.passes.gram import gram

__all__ = ["standin"]

LAYER = "blocks.1.q.weight"


# --- the whole: collections and Grams


def test_a_collection_from_the_hub_has_the_grams_of_the_same_files_in_a_folder(standin: HubStandIn, tmp_path: Path):
    for i in range(4):
        standin.add(f"lab/m{i}", files(i))
        save_file(tensors(i), tmp_path / f"m{i}.safetensors")
    here, there = collect(tmp_path), collect([f"lab/m{i}" for i in range(4)])
    assert there.labels == here.labels == ("m0", "m1", "m2", "m3")
    assert there.layers == here.layers
    assert (gram(there, LAYER).values == gram(here, LAYER).values).all()


def test_names_and_branches_of_one_state_are_one_fingerprint(standin: HubStandIn):
    commits = [standin.add(f"lab/m{i}", files(i)) for i in range(2)]
    by_name = collect(["lab/m0", "lab/m1@main"])
    by_commit = collect([ModelRef(f"lab/m{i}", commit) for i, commit in enumerate(commits)])
    assert by_name.fingerprint == by_commit.fingerprint
    assert [ref.commit for ref in by_name.refs] == commits
    standin.add("lab/m0", files(7))
    assert collect(["lab/m0", "lab/m1"]).fingerprint != by_name.fingerprint


def test_revisions_of_one_repository_are_models_told_apart_by_revision(standin: HubStandIn):
    for step in (1, 2):
        standin.add("lab/run", files(step), revision=f"step{step}")
    assert collect(["lab/run@step1", "lab/run@step2"]).labels == ("run@step1", "run@step2")


def test_the_base_may_lie_on_the_hub(standin: HubStandIn, tmp_path: Path):
    standin.add("lab/base", files(9))
    for i in range(2):
        save_file(tensors(i), tmp_path / f"m{i}.safetensors")
    found = collect(tmp_path, base="lab/base@main")
    assert found.base is not None
    assert (found.base.repo, len(found.base_layers)) == ("lab/base", 3)
    assert gram(found, LAYER).base is not None


def test_what_exists_here_is_never_asked_of_the_hub(
    standin: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        (tmp_path / "runs").mkdir(exist_ok=True)
        save_file(tensors(i), tmp_path / "runs" / f"m{i}.safetensors")
    assert len(collect(["runs/m0.safetensors", "runs/m1.safetensors"])) == 2
    assert not standin.quiet()


def test_a_folder_of_the_same_name_does_not_hide_a_model_at_a_commit(
    standin: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab" / "m0").mkdir(parents=True)
    refs = [ModelRef(f"lab/m{i}", standin.add(f"lab/m{i}", files(i))) for i in range(2)]
    assert collect(refs).refs == tuple(refs)


def test_each_refusal_has_its_own_message_and_stops_nobody_else(standin: HubStandIn):
    for i in range(2):
        standin.add(f"lab/m{i}", files(i))
    standin.add("lab/gated", files(), gated=True)
    standin.add("lab/private", files(), private=True)
    standin.add("lab/disabled", files(), disabled=True)
    standin.add("lab/empty", {".gitattributes": b"", "README.md": b""})
    standin.add("lab/pickled", {"pytorch_model.bin": b"no"})
    standin.add("lab/gguf", {"q4.gguf": b"no"})
    standin.add("lab/notes", {"notes.txt": b"no"})
    standin.add("lab/broken", {"model.safetensors": b"garbage" * 10})
    standin.renamed["lab/old"] = "lab/m2"
    standin.add("lab/m2", files(2))
    names = [
        "m0",
        "m1",
        "gated",
        "private",
        "disabled",
        "empty",
        "pickled",
        "gguf",
        "notes",
        "broken",
        "missing",
        "old",
    ]
    found = collect([f"lab/{name}" for name in names] + ["lab/m0@nope"])
    reasons = {note.what: note.reason for note in found.left_out}
    assert found.labels == ("m0", "m1", "old")
    for label, message in {
        "gated": r"lab/gated: gated: accept its terms at http\S+/lab/gated, then set HF_TOKEN",
        "private": r"no such repository on \S+, .*or it is private.* set HF_TOKEN",
        "missing": r"no such repository on \S+, .*or it is private",
        "disabled": "the Hub has disabled this repository",
        "empty": "lab/empty: empty: the repository holds no files",
        "pickled": "lab/pickled: a pickled file can run code",
        "gguf": "lab/gguf: GGUF weights are quantised",
        "notes": "lab/notes: no safetensors file is there",
        "broken": r"lab/broken: model\.safetensors: the header claims",
        "m0@nope": "there is no branch, tag or commit 'nope'",
        "lab/old": "it was renamed; it is lab/m2 now",
    }.items():
        assert label in reasons, label
        assert_matches(reasons[label], message)


def assert_matches(text: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


# --- queries become collections


def test_a_query_opens_as_a_collection_with_what_the_cards_say(standin: HubStandIn):
    for i in range(4):
        standin.add(
            f"lab/task{i}",
            files(i),
            tags=["base_model:lab/base", "base_model:finetune:lab/base", "license:mit", f"dataset:lab/data{i}"],
            downloads=10 * i,
            pipeline_tag="text-generation",
            createdAt="2024-03-05T10:00:00.000Z",
        )
    found = collect(HubQuery(finetunes="lab/base", limit=3))
    assert found.name == "finetunes:lab/base limit:3"
    assert found.labels == ("task3", "task2", "task1")
    assert found.table["base"] == ("lab/base",) * 3
    assert found.table["datasets"] == ("lab/data3", "lab/data2", "lab/data1")
    assert found.table["created"] == ("2024-03-05",) * 3
    assert found.table["downloads"] == (30, 20, 10)
    assert (
        LeftOut(found.name, "more models pass the query than its limit of 3; raise it to have them") in found.left_out
    )


@pytest.mark.parametrize(("made", "asked", "followed"), [(files, 1, 2), (adapter, 2, 4)])
def test_opening_a_query_takes_at_most_three_requests_a_model(
    standin: HubStandIn, made: Callable[[int], dict[str, bytes]], asked: int, followed: int
):
    for i in range(30):
        standin.add(f"lab/task{i}", made(i))
    found = collect(HubQuery(globs=("lab/task*",)))
    assert len(found) == 30
    assert len(standin.calls()) <= asked * 30 + 2
    assert len(standin.quiet()) <= followed * 30 + 2


def test_opening_tells_how_far_it_is_and_hears_stop(standin: HubStandIn):
    names = [f"lab/m{i}" for i in range(30)]
    for i, name in enumerate(names):
        standin.add(name, files(i))
    told = []
    collect(names[:3], report=lambda share, text: told.append((share, text)))
    assert told == [(i / 3, f"{i} of 3 models opened") for i in (1, 2, 3)]

    def stop(share: float, text: str) -> None:
        raise Cancelled(text)

    standin.seen.clear()
    with pytest.raises(Cancelled, match="1 of 30 models opened"):
        collect(names, report=stop)
    assert len(standin.calls("/api/*")) < 30


def test_the_example_of_the_hub_page_runs(
    standin: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    text = (Path(__file__).parents[1] / "docs" / "hub.md").read_text(encoding="utf-8")
    (example,) = [code for code in re.findall(r"```py\n(.*?)```", text, flags=re.S) if "HubQuery" in code]
    for i in range(25):
        standin.add(f"lab/m{i}", files(i), tags=["base_model:finetune:openai-community/gpt2"])
    standin.add("openai-community/gpt2", files(99))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/hub.md", "exec"), {})
    assert capsys.readouterr().out == "20 models, 2 notes on what was left out\n"
    assert len(collect("gpt2.uws.toml")) == 20
