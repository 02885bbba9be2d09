"""Rows of one tensor read again and again: every stored type, cast or as it is, in any pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from uws_core.nouns.models import LayerKey
from uws_core.sources.files.blob import FileBlob, RowReader, read_header
from uws_core.sources.files.buffers import buffer_of
from uws_core.sources.files.row_slabs import SlabReader

SHAPE = (37, 24)
TYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
# Zeros, subnormal and largest numbers, infinities and NaN.
EDGES = (0.0, -0.0, 1e-40, -1e-40, 3.3e38, -3.3e38, float("inf"), float("-inf"), float("nan"))


@pytest.fixture(params=TYPES, ids=str)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[torch.Tensor, RowReader]:
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[3, : len(EDGES)] = torch.tensor(EDGES, dtype=torch.float64)
    values = values.to(request.param)
    save_file({"other": torch.zeros(3), "w": values}, tmp_path / "m.safetensors")
    blob = FileBlob(tmp_path / "m.safetensors")
    return values, RowReader(blob, read_header(blob).spans["w"], LayerKey("w", SHAPE))


@pytest.mark.parametrize("into", [None, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("piece", [1, 5 * 24 * 2, 2**20])
def test_rows_are_those_that_were_saved(
    stored: tuple[torch.Tensor, RowReader],
    into: torch.dtype | None,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, reader = stored
    monkeypatch.setattr(FileBlob, "piece", piece)
    for start, stop in ((0, 37), (3, 4), (11, 30), (5, 5)):
        target = None if into is None else torch.full((stop - start, 24), 7.0, dtype=into)
        found = reader.read(start, stop, into=target)
        expected = values[start:stop].to(into or values.dtype)
        assert torch.equal(found.nan_to_num(0.5), expected.nan_to_num(0.5))
        assert torch.equal(found.signbit() & ~found.isnan(), expected.signbit() & ~expected.isnan())


def test_a_target_that_is_not_contiguous_is_filled_as_well(stored: tuple[torch.Tensor, RowReader]) -> None:
    values, reader = stored
    wide = torch.zeros(37, 48)
    reader.read(0, 37, into=wide[:, ::2])
    assert torch.equal(wide[:, ::2].nan_to_num(0.5), values.float().nan_to_num(0.5))
    assert not wide[:, 1::2].any()


class OneLayer:
    """As much of a source as a slab needs."""

    def __init__(self, reader: RowReader) -> None:
        self._reader = reader

    def reader(self, layer: str) -> RowReader:
        return self._reader


def test_a_slab_may_hold_models_of_several_types(tmp_path: Path) -> None:
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    readers = []
    for kind in (*TYPES, torch.bfloat16):
        path = tmp_path / f"{len(readers)}.safetensors"
        save_file({"w": values.to(kind)}, path)
        blob = FileBlob(path)
        readers.append(RowReader(blob, read_header(blob).spans["w"], LayerKey("w", SHAPE)))
    buffer = buffer_of(len(readers), 10, 24, torch.float32)
    slab = SlabReader([OneLayer(reader) for reader in readers], LayerKey("w", SHAPE), buffer)  # type: ignore[misc]
    for start, stop in ((0, 10), (10, 20), (30, 37)):
        slab.read(start, stop)
        for kind, rows in zip((*TYPES, torch.bfloat16), buffer, strict=True):
            assert torch.equal(rows[: stop - start], values[start:stop].to(kind).float())
