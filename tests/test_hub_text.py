"""Queries and references as text that people type, paste and edit."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uws_core.nouns.hub import PRESETS, SORTS, HubQuery, hub_ref, str_ref
from uws_core.nouns.models import ModelRef

WORD = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._]{0,10}[A-Za-z0-9_])?", fullmatch=True).filter(
    lambda s: ".." not in s and not s.endswith(".git")
)
NAME = st.tuples(WORD, WORD).map("/".join)
GLOB = st.tuples(WORD, WORD).map("*".join) | WORD.map(lambda w: f"lab/{w}?")
QUERY = st.builds(
    HubQuery,
    names=st.lists(
        st.tuples(NAME, st.sampled_from(["", "@main", "@v1.0#a/b.safetensors", "#x"])).map("".join),
        max_size=3,
        unique=True,
    ).map(tuple),
    globs=st.lists(GLOB, max_size=2, unique=True).map(tuple),
    adapters=NAME | st.just(""),
    finetunes=NAME | st.just(""),
    author=WORD | st.just(""),
    tag=st.lists(WORD, max_size=2, unique=True).map(tuple),
    task=WORD | st.just(""),
    license=WORD | st.just(""),
    since=st.dates().map(str) | st.just(""),
    min_downloads=st.integers(0, 10**6),
    gated=st.sampled_from(["", "no", "only"]),
    sort=st.sampled_from(SORTS),
    limit=st.integers(1, 10_000),
)


# --- the text


@given(QUERY)
def test_a_query_reads_back_from_its_text(query: HubQuery):
    assert HubQuery.parse(str(query)) == query


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_a_message(text: str):
    with suppress(ValueError):
        query = HubQuery.parse(text)
        assert HubQuery.parse(str(query)) == query


def test_a_pasted_list_may_have_lines_commas_quotes_addresses_and_comments():
    text = """
    # what we compare
    lab/a, "lab/b@v1"   # the second
    https://huggingface.co/lab/c
    https://huggingface.co/lab/d/tree/refs%2Fpr%2F1
    https://huggingface.co/lab/e/blob/main/model.safetensors?download=true
    hf://lab/f@main
    lab/g#sub/adapter
    """
    names = HubQuery.parse(text.replace("%2F", "-")).names
    assert names == ("lab/a", "lab/b@v1", "lab/c", "lab/d@refs-pr-1", "lab/e@main", "lab/f@main", "lab/g#sub/adapter")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpt2",
        "lab/a/b",
        "../x/y",
        "lab/..",
        "-x/y",
        "lab/a--b",
        "lab/a.git",
        "lab/a@x y",
        "lab/a@../b",
        "/etc/passwd",
        "lab/ä",
    ],
)
def test_what_names_no_repository_is_refused(text: str):
    with pytest.raises(ValueError, match="names no repository; expected owner/name"):
        hub_ref(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limit:0", "limit: expected 1 to 10000, found '0'"),
        ("limit:many", "limit: expected a whole number, found 'many'"),
        ("adapters:gpt2", "a base model: expected owner/name, found 'gpt2'"),
        ("since:2024-13-01", "since: expected a day such as 2024-01-31"),
        ("sort:size", "sort: expected one of downloads, likes"),
        ("gated:maybe", "gated: expected no or only"),
        ("nothing", "'nothing' names no repository"),
        ("lab/*/x*", "a glob: expected owner/name with"),
    ],
)
def test_a_word_that_cannot_be_is_named(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        HubQuery.parse(text)


@given(NAME, st.sampled_from(["", "main", "refs/pr/3", "0" * 40]), st.sampled_from(["", "a.safetensors"]))
def test_a_reference_reads_back_from_its_text(repo: str, revision: str, part: str):
    ref = ModelRef(repo, revision, part)
    assert hub_ref(str_ref(ref)) == ref


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_query_that_asks_for_something(name: str):
    query = HubQuery.parse(PRESETS[name])
    assert query.lists
    assert str(query) == PRESETS[name].replace(" limit:100", "")
