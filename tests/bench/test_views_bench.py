"""Held-out curves and pairwise angles from what is stored: how long a changed control takes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.measure import medians, table
from tests.planted import gram_of, noise
from uws_core.analysis.angle_tables import model_angles
from uws_core.analysis.heldout import held_out
from uws_core.nouns.angles import Factors
from uws_core.nouns.models import LayerKey

pytestmark = pytest.mark.bench


def test_every_k_held_out_from_a_stored_gram() -> None:
    many, few = gram_of(noise(500, 2000, seed=0)), gram_of(noise(100, 2000, seed=1))
    tens = [i % 10 for i in range(500)]
    took = medians(
        {
            "ten groups of 500 models, every k": lambda: held_out(many, groups=tens, kept=range(450)),
            "every one of 100 models, every k": lambda: held_out(few, groups=range(100), kept=range(99)),
        }
    )
    rows = [(*one, 1.0) for one in took.items()]
    table("Held-out errors from a stored Gram", ["question", "seconds", "at most"], rows)
    assert max(took.values()) <= 1.0


def test_pairwise_angles_of_a_hundred_models_from_stored_factors() -> None:
    rng = np.random.default_rng(2)
    left, right = (np.linalg.qr(rng.standard_normal((100, 768, 32)))[0] for _ in range(2))
    factors = Factors(
        layer=LayerKey("w", (768, 768)),
        labels=tuple(map(str, range(100))),
        about="zero",
        left=left,
        right=right,
        singular=np.tile(np.linspace(2, 1, 768), (100, 1)),
        norm2=np.ones(100),
        residual=np.zeros(100),
    )
    took = medians({f"100 models, k = {k}": lambda k=k: model_angles(factors, side="in", kept=k) for k in (16, 32)})
    table("Angles of all pairs from stored factors", ["question", "seconds"], list(took.items()))
    assert took["100 models, k = 16"] <= 2.0
