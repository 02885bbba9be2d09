"""Held-out errors and scores come out of their bytes as they went in, and damage is told."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from tests.planted import gram_of, noise
from uws_core.analysis.heldout import held_out
from uws_core.errors import StoreError
from uws_core.nouns.heldout import FunctionPoint, HeldOut, Way
from uws_core.store.codec import sequence_from_bytes, to_bytes


def test_held_out_errors_come_back_bit_for_bit():
    items = held_out(gram_of(noise(6, 40, seed=0)), groups=list("aabbcc"), kept=[0, 2, 9])
    again = sequence_from_bytes(HeldOut, to_bytes(items))
    assert len(again) == 6
    for one, other in zip(items, again, strict=True):
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)
    assert again[0].notes == items[0].notes != ()
    assert sequence_from_bytes(HeldOut, to_bytes(())) == ()


def test_scores_come_back_and_nan_stays_nan():
    points = (
        FunctionPoint("a", "g", Way.HELD_OUT, 3, 0.5, 0.25),
        FunctionPoint("b", "g", Way.ORIGINAL, 0, 0.0, float("nan"), "RuntimeError: no"),
    )
    again = sequence_from_bytes(FunctionPoint, to_bytes(points))
    assert again[0] == points[0]
    assert np.isnan(again[1].score)
    assert again[1].problem == "RuntimeError: no"


@pytest.mark.parametrize("raw", [b"", b"[]x", b'{"a": 1}', b'[{"model": 1}]'])
def test_damaged_bytes_are_told(raw: bytes):
    with pytest.raises(StoreError):
        sequence_from_bytes(HeldOut, raw)
    with pytest.raises(StoreError, match="computed again"):
        sequence_from_bytes(FunctionPoint, raw)
