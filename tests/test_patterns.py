import re
from contextlib import suppress

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from uws_core.sources.formats.patterns import Patterns, ends_with

HOSTILE = settings(max_examples=max(300, 5 * settings.default.max_examples))


# Patterns of the small language, which Python's engine reads too.
atoms = st.sampled_from(["a", "b", ".", "\\.", "\\d", "[ab]", "[^a]", "[a-c0-1]", "\\w", "0", "^", "$", "\\D"])


expressions = st.recursive(
    atoms,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})")
        | inner.map(lambda one: f"(?:{one})*")
        | inner.map(lambda one: f"({one})?")
        | st.sampled_from("ab.").map(lambda one: f"{one}+?")
    ),
    max_leaves=6,
)


@HOSTILE
@given(expressions, st.text("ab0.c", max_size=6))
def test_patterns_match_what_pythons_engine_matches(pattern: str, text: str):
    try:
        found = ends_with(pattern, text)
    except ValueError:
        assume(False)
    assert found == bool(re.match(rf"(.*\.)?({pattern})\Z", text))


@HOSTILE
@given(st.lists(expressions | st.text("ab0.^$", max_size=4), max_size=6), st.text("ab0.", max_size=5))
def test_of_several_patterns_the_first_that_matches_counts(patterns: list[str], text: str):
    together = Patterns(patterns)
    for _ in range(2):
        try:
            found = together.first(text)
        except ValueError:
            assume(False)
        assert found == next((one for one in patterns if ends_with(one, text)), None)


@HOSTILE
@given(st.text("ab(|)*+?[]^$\\d.{1,2}-", max_size=40))
def test_any_pattern_is_matched_or_refused(pattern: str):
    with suppress(ValueError):
        assert ends_with(pattern, "a" * 100 + ".b" * 50) in (True, False)
