"""A column that has nothing to do with the weights does not hide that they are relatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.planted import families, gram_of, noise
from tests.test_evidence import judged, says
from uws_core.analysis.evidence import evidence
from uws_core.nouns.claims import KIN
from uws_core.nouns.evidence import Evidence, Verdict
from uws_core.zoo import synthetic
from uws_core.zoo.synthetic import SyntheticCollection


def by_task(made: SyntheticCollection, **options: object) -> Evidence:
    return judged(made, groups=made.table["task"], grouped_by="task", **options)


@pytest.mark.parametrize("make", [synthetic.shared_start, synthetic.two_lineages])
def test_a_column_that_has_nothing_to_do_with_the_weights_does_not_hide_ancestry(
    make: Callable[..., SyntheticCollection],
) -> None:
    found = by_task(make())
    assert found["within"].verdict is Verdict.HOLDS
    assert found["within-kin"].verdict is Verdict.CHANCE
    assert not {"unseen-kin", "one-each-kin"} & says(found, Verdict.HOLDS)
    # Halves keep the lineage's groups whole too.
    assert found["halves"].verdict is Verdict.CHANCE


def test_the_lineage_is_asked_only_where_its_groups_are_others() -> None:
    made = synthetic.two_lineages()
    assert not set(KIN.values()) & {one.claim for one in judged(made).findings}
    same = judged(made, groups=made.truth["lineage"], grouped_by="lineage")
    assert "within-kin" not in same
    assert "within-kin" not in by_task(synthetic.spike(strength=40.0))
    assert "within-kin" in by_task(made)


def test_groups_without_a_column_are_those_about_the_base_where_there_is_one() -> None:
    kin, base = families([5] * 6, 800, likeness=0.6, seed=24), 20 * noise(1, 800, seed=25)[0]
    raw = evidence(gram_of(kin + base), draws=19)
    about = evidence(gram_of(kin + base, base=base), draws=19)
    assert raw.groups == 0
    assert about.groups == 6
    assert about.grouped_by.startswith("lineage about the base at a cosine of")
