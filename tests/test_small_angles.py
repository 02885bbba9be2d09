"""Planted angles through real files: what is above the stated floor comes out, what is below reads 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_angles import PLANTED, planted_pair
from tests.test_gram import LAYER, written
from uws_core.analysis.angle_tables import model_angles, side_table
from uws_core.analysis.angles import pair_angles, shared_angles, side_angles
from uws_core.nouns.angles import Angles
from uws_core.passes.factors import factors
from uws_core.passes.gram import gram
from uws_core.passes.side import side_gram

TYPES = [torch.float32, torch.float64]
SHAPE = (48, 40)
# The weights themselves are rounded when they are written: 6e-8 of entries that are ten times the smallest direction.
ROUNDED = {torch.float32: 2e-6, torch.float64: 1e-12}


def told(found: Angles, dtype: torch.dtype, *, floor: float) -> None:
    """Every planted angle above the floor, and 0 for the others; the floor is at most `floor` degrees."""
    truth, limit = np.radians(PLANTED), found.floor
    assert 0 < np.degrees(limit) <= floor
    assert found.radians[0] == pytest.approx(0, abs=1e-12 + (ROUNDED[dtype] if limit < ROUNDED[dtype] else 0))
    for angle, planted in zip(found.radians[1:], truth[1:], strict=True):
        if planted > 2 * limit:
            assert angle == pytest.approx(planted, abs=limit + ROUNDED[dtype])
        else:
            assert angle <= 2 * limit


def sides(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of three models (3, m, p) whose rows span planted subspaces; all about equally strong."""
    rng = np.random.default_rng(seed)
    out = []
    for basis in planted_pair(d=SHAPE[1], seed=seed):
        strong = np.linalg.qr(rng.standard_normal((3 * SHAPE[0], 4)))[0] * [2.0, 1.6, 1.3, 1.0]
        out.append((strong @ basis.T).reshape(3, *SHAPE))
    return out[0], out[1]


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 5.0), (torch.float64, 5e-4)])
def test_on_the_models_axis(tmp_path: Path, dtype: torch.dtype, floor: float) -> None:
    left, right = planted_pair(d=SHAPE[0] * SHAPE[1])
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal((8, 4)) @ basis.T for basis in (left, right)]
    arrays = [row.reshape(SHAPE) for row in np.concatenate(rows)]
    found = shared_angles(gram(written(tmp_path, arrays, dtype), LAYER), range(8), range(8, 16), kept=4)
    told(found, dtype, floor=floor)
    np.testing.assert_allclose(found.degrees[2:], PLANTED[2:], atol=0.01)


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 5e-4), (torch.float64, 5e-6)])
def test_on_the_side_axes(tmp_path: Path, axis: str, dtype: torch.dtype, floor: float) -> None:
    arrays = [array if axis == "in" else array.T.copy() for array in np.concatenate(sides(2))]
    collection = written(tmp_path, arrays, dtype)
    grams = [side_gram(collection, LAYER, axis=axis, members=rows, about="zero") for rows in (range(3), range(3, 6))]
    found = side_angles(*grams, kept=4)
    told(found, dtype, floor=floor)
    assert found.degrees[1] == pytest.approx(1e-3, rel=0.2)
    table = side_table(grams, kept=4, what="groups", labels=("a", "b"))
    np.testing.assert_allclose(table.radians[0, 1], found.radians, atol=3e-8)
    assert table.floor == pytest.approx(found.floor)


@pytest.mark.parametrize("side", ["in", "out"])
@pytest.mark.parametrize("dtype", TYPES)
def test_between_models_own_directions(tmp_path: Path, side: str, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(3)
    bases = planted_pair(d=SHAPE[1], seed=3)
    own = [np.linalg.qr(rng.standard_normal((SHAPE[0], 4)))[0] * [2.0, 1.6, 1.3, 1.0] @ basis.T for basis in bases]
    arrays = [array if side == "in" else array.T.copy() for array in own]
    known = factors(written(tmp_path, arrays, dtype), LAYER, kept=4, about="zero")
    found = pair_angles(known, 0, 1, side=side, kept=4)
    told(found, dtype, floor=2e-5)
    assert found.degrees[1] == pytest.approx(1e-3, rel=0.2)
    table = model_angles(known, side=side, kept=4)
    np.testing.assert_allclose(table.radians[0, 1], found.radians, atol=1e-7)
    assert table.floor == found.floor


def test_a_weak_direction_raises_the_floor_of_its_models_and_of_no_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    arrays = []
    for weakest in (1.0, 1.0, 1e-6):
        left, right = (np.linalg.qr(rng.standard_normal((side, 3)))[0] for side in SHAPE)
        arrays.append(left * [2.0, 1.5, weakest] @ right.T)
    known = factors(written(tmp_path, arrays, torch.float64), LAYER, kept=3, about="zero")
    strong, weak = (pair_angles(known, 0, i, side="in", kept=3).floor for i in (1, 2))
    assert strong == pytest.approx(2e-7)
    assert 1e-4 < weak < 1e-1
    assert pair_angles(known, 0, 2, side="in", kept=2).floor == pytest.approx(2e-7)
