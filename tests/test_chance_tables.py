"""Tables of docs/chance.md: power and alarms of the count, and of every claim on models that share nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from tests.block_grams import gram_of
from tests.nothing_shared import KINDS, NOT_COVERED
from uws_core.analysis.evidence import evidence
from uws_core.analysis.noise import wishart
from uws_core.analysis.shared_directions import shared_directions
from uws_core.nouns.claims import CLAIMS, KIN
from uws_core.nouns.gram import EntryStats, Gram
from uws_core.nouns.models import LayerKey

N, D = 24, 4096
NORMS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "equal": lambda rng: np.ones(N),
    "one 3x": lambda rng: np.r_[3.0, np.ones(N - 1)],
    "one 5x": lambda rng: np.r_[5.0, np.ones(N - 1)],
    "three 4x": lambda rng: np.r_[np.full(3, 4.0), np.ones(N - 3)],
    "log-normal .5": lambda rng: np.exp(0.5 * rng.standard_normal(N)),
    "log-normal 1": lambda rng: np.exp(rng.standard_normal(N)),
}
STRENGTHS = (0, 2, 3, 5, 10, 40)


def gram_from(rng: np.random.Generator, norms: np.ndarray, coordinates: np.ndarray) -> Gram:
    """The exact Gram of noise of these norms plus directions with `coordinates` (n, k), in units of one noise entry."""
    k = coordinates.shape[1]
    inner = wishart(rng, count=1, side=N, dof=D - k)[0]
    along = rng.standard_normal((N, k)) + coordinates
    inner = (inner + along @ along.T) * np.outer(norms, norms)
    center = np.eye(N) - 1 / N
    values = center @ inner @ center
    return Gram(
        layers=(LayerKey("layer", (64, 64)),),
        labels=tuple(f"m{i}" for i in range(N)),
        values=values,
        to_center=np.zeros(N),
        center_norm2=0.0,
        d=D,
        floor=1e-12 * float(np.trace(values)),
        entry_stats=EntryStats.of_norms(np.diag(values), D),
    )


def one_direction(strength: float) -> Callable[[np.random.Generator], np.ndarray]:
    """A direction at `strength` times the detection limit of equal noise, with random coordinates."""

    def planted(rng: np.random.Generator) -> np.ndarray:
        along = rng.standard_normal((N, 1))
        return along * np.sqrt(strength * np.sqrt(N * D)) / np.linalg.norm(along)

    return planted


def graded(rng: np.random.Generator) -> np.ndarray:
    basis = np.linalg.qr(rng.standard_normal((N, 5)))[0]
    return basis * np.sqrt(np.array([20, 14, 10, 7, 5]) * np.sqrt(N * D))


def four_of_80_percent(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((N, 4)))[0] * np.sqrt(N * D)


def near_copies(rng: np.random.Generator) -> np.ndarray:
    return np.where(np.arange(N)[:, None] < 2, np.sqrt(9.0 * D), 0.0)


def counts(
    norms: Callable[[np.random.Generator], np.ndarray],
    planted: Callable[[np.random.Generator], np.ndarray],
    repetitions: int,
    *,
    absolute: bool = False,
) -> np.ndarray:
    rng = np.random.default_rng(0)
    found = []
    for seed in range(repetitions):
        sizes, coordinates = norms(rng), planted(rng)
        # In absolute units every member of a group lies equally far from the others, however noisy it is.
        coordinates = coordinates / sizes[:, None] if absolute else coordinates
        found.append(shared_directions(gram_from(rng, sizes, coordinates), kind="strength", seed=seed).count)
    return np.array(found)


def groups(rng: np.random.Generator) -> np.ndarray:
    """Six groups of four models, each about a centre of its own: five directions among their centres."""
    return np.kron(np.eye(6), np.ones((4, 1))) * np.sqrt(D)


@pytest.mark.parametrize("norms", ["equal", "one 5x", "log-normal .5"])
def test_one_direction_is_found_and_none_is_not(norms: str):
    assert (counts(NORMS[norms], one_direction(10), 15) >= 1).all()
    assert (counts(NORMS[norms], one_direction(0), 15) >= 1).sum() <= 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_power_and_counts_are_those_of_the_documents():
    repetitions = 200
    print("\nfalse alarms and power in percent, a direction at so many times the detection limit")
    for name, norms in NORMS.items():
        rates = [100 * np.mean(counts(norms, one_direction(s), repetitions) >= 1) for s in STRENGTHS]
        print(f"{name:15s}" + "".join(f"{rate:7.1f}" for rate in rates), flush=True)
        assert 1 <= rates[0] <= 9, name
        assert rates[3] >= 95, name
    print("mean count where more is planted")
    truths = {"five graded": (graded, 5), "four of 80 %": (four_of_80_percent, 4), "near copies": (near_copies, 1)}
    for name, (planted, truth) in truths.items():
        means = {kind: float(counts(NORMS[kind], planted, repetitions).mean()) for kind in NORMS}
        print(f"{name:15s}" + "".join(f"{mean:7.2f}" for mean in means.values()), flush=True)
        assert all(abs(mean - truth) <= 0.15 for mean in means.values()), (name, means)
    means = {kind: float(counts(NORMS[kind], groups, repetitions, absolute=True).mean()) for kind in NORMS}
    print(f"{'six groups':15s}" + "".join(f"{mean:7.2f}" for mean in means.values()), flush=True)
    assert all(abs(mean - 5) <= 0.15 for kind, mean in means.items() if kind != "log-normal 1"), means


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_no_claim_alarms_more_than_nominal_on_models_that_share_nothing():
    repetitions = 200
    claims = [claim for claim in CLAIMS if claim != "sound" and claim not in KIN.values()]
    print(f"\n{'models':38s}" + " ".join(f"{claim[:9]:>9s}" for claim in claims))
    wrong = {}
    for kind, make in KINDS.items():
        rng, alarms = np.random.default_rng(7), Counter[str]()
        for seed in range(repetitions):
            labels = [i % 6 for i in range(24)]
            findings = evidence(gram_of(make(rng)), groups=labels, draws=39, seed=seed).findings
            alarms.update(one.claim for one in findings if one.p <= 0.05)
        rates = {claim: alarms[claim] / repetitions for claim in claims}
        print(f"{kind:38s}" + " ".join(f"{100 * rates[claim]:9.1f}" for claim in claims), flush=True)
        if kind not in NOT_COVERED:
            wrong |= {(kind, claim): rate for claim, rate in rates.items() if rate > 0.09}
    assert wrong == {}
