"""The answer line on shared directions: a count with its p, no count, too few models, and scales in common."""

from __future__ import annotations

import numpy as np
import pytest

from tests.wording import measured
from uws_core.answers.shared_directions import BEYOND_EQUAL_NOISE, answer
from uws_core.nouns.chance import SharedDirections


def shared(count: int, p: list[float], *, kind: str = "profile", reason: str = "") -> SharedDirections:
    tests = np.array(p)
    return SharedDirections(
        count=count,
        p=tests,
        tail=tests,
        z=np.zeros(tests.size),
        loadings=np.zeros((count, 8)),
        noise=np.ones(8),
        kind=kind,
        view="rows",
        draws=200,
        seed=0,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("found", "equal", "line"),
    [
        (
            shared(2, [0.005, 0.02, 0.4]),
            None,
            "Beyond chance: these models share 2 directions in `0.q`, with p at most 0.02.",
        ),
        (
            shared(1, [0.005, 0.4]),
            None,
            "Beyond chance: these models share 1 direction in `0.q`, with p at most 0.005.",
        ),
        (
            shared(0, [0.31]),
            shared(0, [0.2], kind="strength"),
            "No more than chance: these models share no direction in `0.q`; the strongest has p = 0.31.",
        ),
        (
            shared(0, [0.31]),
            shared(4, [0.005] * 4 + [0.3], kind="strength"),
            f"{BEYOND_EQUAL_NOISE}: of 4 directions in `0.q`, none is left when all models keep their scales.",
        ),
        (
            shared(0, [], reason="4 models are too few for a count"),
            None,
            "One cannot tell in `0.q`: 4 models are too few for a count.",
        ),
    ],
    ids=["two", "one", "none", "scales", "few"],
)
def test_the_line_has_the_count_and_its_p(found: SharedDirections, equal: SharedDirections | None, line: str) -> None:
    assert answer(found, location="`0.q`", equal=equal) == line
    assert measured(line).short
