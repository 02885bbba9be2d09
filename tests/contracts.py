"""What every source must do, whatever its files look like: subclass, and give the fixture `written`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from uws_core.errors import LayerError
from uws_core.nouns.models import LayerKey, ModelRef
from uws_core.sources.base import Source
from uws_core.sources.opening import open_source


@dataclass(frozen=True)
class Written:
    """A model that was just written: where, and the layers it must show, as m x p matrices of the stored dtype."""

    ref: ModelRef
    layers: dict[str, Tensor]

    def open(self) -> Source:
        return open_source(self.ref)


class SourceContract:
    """The promises of `sources.base.Source` for dense layers."""

    @pytest.fixture
    def written(self, tmp_path: Path) -> Written:
        raise NotImplementedError

    def test_shows_every_matrix_with_its_shape(self, written: Written):
        with written.open() as source:
            found = {layer.name: layer for layer in source.layers()}
        assert found == {name: LayerKey(name, tuple(value.shape)) for name, value in written.layers.items()}

    def test_reads_every_layer_bit_for_bit(self, written: Written):
        with written.open() as source:
            for name, value in written.layers.items():
                read = source.read(name)
                assert read.dtype == value.dtype
                assert torch.equal(_bits(read), _bits(value))

    @pytest.mark.parametrize("step", [1, 3, 1000])
    def test_slabs_of_rows_make_up_the_layer(self, written: Written, step: int):
        with written.open() as source:
            for name, value in written.layers.items():
                m = value.shape[0]
                slabs = [source.read(name, (row, min(row + step, m))) for row in range(0, m, step)]
                assert torch.equal(_bits(torch.cat(slabs)), _bits(value))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_writes_into_a_row_of_a_larger_buffer_and_nowhere_else(self, written: Written, dtype: torch.dtype):
        with written.open() as source:
            for name, value in written.layers.items():
                buffer = torch.full((3, *value.shape), 7.0, dtype=dtype)
                assert source.read(name, into=buffer[1]) is not None
                assert torch.equal(_bits(buffer[1]), _bits(value.to(dtype)))
                assert bool((buffer[[0, 2]] == 7).all())

    def test_a_part_goes_into_a_buffer_that_is_not_contiguous(self, written: Written):
        name, value = next(iter(written.layers.items()))
        buffer = torch.full((value.shape[1], 1), 7.0, dtype=value.dtype)
        with written.open() as source:
            source.read(name, (0, 1), into=buffer.T)
        assert torch.equal(_bits(buffer[:, 0]), _bits(value[0]))

    def test_no_rows_are_an_empty_matrix(self, written: Written):
        name, value = next(iter(written.layers.items()))
        with written.open() as source:
            assert source.read(name, (0, 0)).shape == (0, value.shape[1])

    def test_an_unknown_layer_is_named(self, written: Written):
        with written.open() as source, pytest.raises(LayerError, match=r"no\.such\.layer"):
            source.read("no.such.layer")

    @pytest.mark.parametrize("rows", [(0, 10**6), (-1, 1), (2, 1)])
    def test_rows_outside_the_layer_are_refused(self, written: Written, rows: tuple[int, int]):
        name = next(iter(written.layers))
        with written.open() as source, pytest.raises(LayerError, match=r"rows 0 to \d+"):
            source.read(name, rows)

    def test_a_buffer_of_another_shape_is_refused(self, written: Written):
        name, value = next(iter(written.layers.items()))
        with written.open() as source, pytest.raises(LayerError, match="not"):
            source.read(name, into=torch.zeros(value.shape[1] + 1, value.shape[0]))

    def test_says_what_a_layer_costs(self, written: Written):
        with written.open() as source:
            for name, value in written.layers.items():
                assert source.stored_bytes(name) == value.numel() * value.element_size()

    def test_says_where_the_bytes_of_rows_lie(self, written: Written):
        with written.open() as source:
            for name, value in written.layers.items():
                for rows in (None, (0, 1), (value.shape[0] // 2, value.shape[0])):
                    (extent,) = source.extents(name, rows)
                    asked = value if rows is None else value[slice(*rows)]
                    there = extent.blob.read(extent.start, extent.stop)
                    assert there == _bits(asked).numpy().tobytes()
                    assert extent.nbytes == len(there)

    def test_many_threads_read_the_same(self, written: Written):
        names = list(written.layers) * 8
        with written.open() as source, ThreadPoolExecutor(8) as pool:
            found = list(pool.map(source.read, names))
        for name, value in zip(names, found, strict=True):
            assert torch.equal(_bits(value), _bits(written.layers[name]))

    def test_opening_again_gives_the_same_digest(self, written: Written):
        with written.open() as first, written.open() as second:
            assert first.digest() == second.digest()
            assert len(first.digest()) >= 32

    def test_holds_no_file_open(self, written: Written):
        before = _open_files()
        sources = [written.open() for _ in range(20)]
        for source in sources:
            source.read(next(iter(written.layers)))
        assert _open_files() <= before


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _bits(values: Tensor) -> Tensor:
    """Entries as integers, so that NaN equals itself and -0 differs from 0."""
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    return values.contiguous().view(kind)
