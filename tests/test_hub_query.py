"""What queries find, and what is known of each model before it is read."""

from pathlib import Path

import pytest

from tests.hub_fixtures import files, standin
from tests.hub_standin import HubStandIn
from uws_core.errors import HubError
from uws_core.nouns.hub import HubModel, HubQuery
from uws_core.nouns.models import LeftOut, ModelRef
from uws_core.sources.hub import hub, models

__all__ = ["standin"]

# --- what it finds


@pytest.fixture
def lab(standin: HubStandIn) -> HubStandIn:
    """Twelve models of three kinds by two authors."""
    for i in range(6):
        tags = ["base_model:lab/base", "base_model:adapter:lab/base", f"license:{'mit' if i % 2 else 'apache-2.0'}"]
        about = {"downloads": 10 * i, "createdAt": f"202{i}-01-01T00:00:00.000Z", "library_name": "peft"}
        standin.add(f"lab/task{i}-lora", files(i), tags=tags, **about)
        tags = ["base_model:finetune:lab/base", "style", "dataset:lab/data"]
        standin.add(f"other/full{i}", files(i), tags=tags, gated=i == 0, pipeline_tag="text-generation", likes=i)
    return standin


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "adapters:lab/base",
            [
                "lab/task5-lora",
                "lab/task4-lora",
                "lab/task3-lora",
                "lab/task2-lora",
                "lab/task1-lora",
                "lab/task0-lora",
            ],
        ),
        ("adapters:lab/base license:mit", ["lab/task5-lora", "lab/task3-lora", "lab/task1-lora"]),
        ("adapters:lab/base since:2023-06-01", ["lab/task5-lora", "lab/task4-lora"]),
        ("adapters:lab/base min_downloads:40", ["lab/task5-lora", "lab/task4-lora"]),
        ("author:other gated:only", ["other/full0"]),
        ("author:other gated:no sort:likes limit:2", ["other/full5", "other/full4"]),
        ("finetunes:lab/base author:lab", []),
        ("tag:style tag:dataset:lab/data limit:1 sort:likes", ["other/full5"]),
        ("tag:license:mit limit:2", ["lab/task5-lora", "lab/task3-lora"]),
        ("lab/*k[34]-*", ["lab/task4-lora", "lab/task3-lora"]),
        ("lab/TASK2*", ["lab/task2-lora"]),
        ("*k1-lora other/full2?", ["lab/task1-lora"]),
        ("author:other task:text-generation other/*3", ["other/full3"]),
        ("library:peft author:lab limit:1", ["lab/task5-lora"]),
        ("lab/task1-lora", ["lab/task1-lora"]),
        ("author:lab limit:1 other/full2 lab/task5-lora", ["lab/task5-lora", "other/full2"]),
    ],
)
def test_a_query_finds(lab: HubStandIn, text: str, found: list[str]):
    assert [model.repo for model in hub.find(text).models] == found


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("author:lab", True),
        ("license:mit", True),
        ("license:apache-2.0", False),
        ("task:text-generation", True),
        ("task:image-classification", False),
        ("library:peft", True),
        ("library:diffusers", False),
        ("since:2024-02-03", True),
        ("since:2024-02-04", False),
        ("min_downloads:7", True),
        ("min_downloads:8", False),
        ("gated:no", False),
        ("gated:only", True),
        ("lab/*", True),
        ("other/*", False),
        ("other/* l*/one", True),
    ],
)
def test_each_filter_by_itself(text: str, passes: bool):
    model = HubModel(
        "lab/one",
        "c",
        open_to_all=False,
        license="mit",
        task="text-generation",
        library="peft",
        created="2024-02-03",
        downloads=7,
    )
    assert HubQuery.parse(text).passes(model) is passes


def test_a_disabled_repository_is_not_listed(lab: HubStandIn):
    lab.repos["lab/task5-lora"].disabled = True
    assert [model.repo for model in hub.find("author:lab limit:1").models] == ["lab/task4-lora"]


def test_a_listed_model_needs_no_request_of_its_own(lab: HubStandIn):
    listing = hub.find("adapters:lab/base")
    before = len(lab.quiet())
    for model in listing.models:
        assert hub.look_up(model.ref) == model
    assert len(lab.quiet()) == before == 2


def test_what_is_known_of_a_listed_model(lab: HubStandIn):
    commit = lab.repos["lab/task1-lora"].refs["main"]
    assert hub.find("lab/task1*").models == (
        HubModel(
            "lab/task1-lora",
            commit,
            files=("README.md", "config.json", "model.safetensors"),
            author="lab",
            base="lab/base",
            relation="adapter",
            license="mit",
            library="peft",
            created="2021-01-01",
            downloads=10,
            tags=("base_model:lab/base", "base_model:adapter:lab/base", "license:mit"),
        ),
    )
    assert hub.find("lab/task1*").models[0].has_safetensors


def test_nothing_is_read_to_make_the_table(lab: HubStandIn):
    hub.find("author:lab")
    assert not lab.calls("*resolve*")


def test_pages_are_followed_only_as_far_as_the_limit_needs(standin: HubStandIn):
    for i in range(350):
        standin.add(f"lab/m{i:03d}", {"model.safetensors": b""})
    listing = hub.find("author:lab limit:150")
    assert (len(listing.models), listing.more) == (150, True)
    assert len(standin.calls("/api/models")) == 1 + 2
    whole = hub.find("author:lab limit:350")
    assert (len(whole.models), whole.more) == (350, False)


def test_a_walk_through_the_whole_hub_ends(standin: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models, "LONGEST_WALK", 120)
    for i in range(350):
        standin.add(f"lab/m{i:03d}", {"model.safetensors": b""}, downloads=350 - i)
    assert hub.find("tag:none *m0").models == ()
    assert [model.repo for model in hub.find("lab/*m*9 limit:10000").models] == [
        f"lab/m{i:03d}" for i in range(9, 120, 10)
    ]


def test_the_hub_searches_by_what_a_glob_says_plainly(lab: HubStandIn):
    hub.find("lab/*ask3-l*r?")
    asked = lab.calls("/api/models")[-1].query
    assert (asked["author"], asked["search"]) == (["lab"], ["ask3-l"])


def test_a_name_that_cannot_be_found_is_listed_and_stops_nobody(lab: HubStandIn):
    told = []
    listing = hub.find(
        HubQuery.parse("lab/task1-lora lab/none@v2 other/full1@nope"), report=lambda *said: told.append(said)
    )
    assert [model.repo for model in listing.models] == ["lab/task1-lora"]
    assert [note.what for note in listing.left_out] == ["lab/none@v2", "other/full1@nope"]
    assert "no such repository" in listing.left_out[0].reason
    assert listing.left_out[1] == LeftOut("other/full1@nope", "there is no branch, tag or commit 'nope'")
    assert told[-1] == (1.0, "3 of 3 repositories looked up")


def test_parts_of_one_repository_are_models_of_their_own(standin: HubStandIn):
    standin.add("lab/set", {"a.safetensors": b"", "b.safetensors": b""})
    refs = [model.ref for model in hub.find("lab/set#a.safetensors lab/set#b.safetensors").models]
    assert [ref.part for ref in refs] == ["a.safetensors", "b.safetensors"]
    assert refs[0].commit == refs[1].commit == standin.repos["lab/set"].refs["main"]


@pytest.mark.parametrize(
    ("text", "message"), [("", "asks for nothing"), ("license:mit", "asks for nothing"), ("!!", "this is no query")]
)
def test_a_query_for_nothing_is_refused_before_any_request(standin: HubStandIn, text: str, message: str):
    with pytest.raises(HubError, match=message):
        hub.find(text)
    assert not standin.quiet()


def test_an_older_hub_that_names_no_commits_is_asked_for_each(lab: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models, "_PROPERTIES", ["tags"])
    listing = hub.find("lab/task1*")
    assert listing.models[0].commit == ""
    monkeypatch.undo()


def test_a_card_that_the_client_would_stumble_over_stops_nobody(standin: HubStandIn):
    standin.add("lab/odd", files(), cardData={"self": 1, "ignore_metadata_errors": 2, "base_model": {"a": []}})
    standin.add("lab/even", files())
    assert len(hub.find("author:lab").models) == 2
    assert hub.look_up(ModelRef("lab/odd", "")).repo == "lab/odd"


def test_a_text_file_is_a_query(tmp_path: Path, lab: HubStandIn):
    (tmp_path / "models.txt").write_text("lab/task1-lora\n# no\nlab/task2-lora\n")
    assert len(hub.find((tmp_path / "models.txt").read_text()).models) == 2
