"""Headers as large as a small file can make them: what opens in a moment at ten tensors opens in seconds at any."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, is_hypothesis_test, settings
from hypothesis import strategies as st

from uws_core.errors import SourceError, UnreadableFile
from uws_core.nouns.models import ModelRef
from uws_core.sources.files.header import parse_header
from uws_core.sources.formats.adapter_keys import spelled
from uws_core.sources.formats.tensor_names import LONGEST, unwrapped
from uws_core.sources.opening import open_source

# Seconds of one core. Each case takes well below one where work grows with size, and minutes where with its square.
LIMIT = 15.0


@pytest.fixture(autouse=True)
def _in_time(request: pytest.FixtureRequest) -> Iterator[None]:
    begun = time.process_time()
    yield
    # What draws many examples measures each of them.
    assert time.process_time() - begun < LIMIT or is_hypothesis_test(request.function)


def header_of(names: list[str], dtype: str = "F32", shape: tuple[int, int] = (2, 1)) -> tuple[bytes, int]:
    """The header of tensors of these names, which may repeat, and the bytes of their data."""
    size = shape[0] * shape[1] * {"F32": 4, "F8_E4M3": 1}[dtype]
    entries = (
        f'{json.dumps(name)}:{{"dtype":"{dtype}","shape":{list(shape)},"data_offsets":[{i * size},{(i + 1) * size}]}}'
        for i, name in enumerate(names)
    )
    return ("{" + ",".join(entries) + "}").encode(), size * len(names)


def at(folder: Path, names: list[str], dtype: str = "F32") -> ModelRef:
    text, size = header_of(names, dtype)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return ModelRef(str(folder / "model.safetensors"), "")


def plain_seconds(folder: Path) -> float:
    """Seconds of one core that 20,000 plain tensors take to open; 0.25 on an idle one."""
    begun = time.process_time()
    open_source(at(folder, [f"layers.{i}.q.weight" for i in range(20_000)])).report()
    return time.process_time() - begun


def test_one_name_twice_among_many_is_found():
    names = [f"t{i}" for i in range(100_000)]
    text, size = header_of([*names, names[-1]])
    with pytest.raises(UnreadableFile, match="'t99999' twice"):
        parse_header(text, file_size=8 + len(text) + size)


def test_a_long_name_twice_is_shown_in_part():
    text, size = header_of(["x" * 10**6] * 2)
    with pytest.raises(UnreadableFile, match="twice") as told:
        parse_header(text, file_size=8 + len(text) + size)
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("word", ["module.", "_orig_mod.", "a.", "module._orig_mod."])
def test_a_name_of_wrappers_is_left_out_with_its_length(tmp_path: Path, word: str):
    name = word * (600_000 // len(word)) + "q.weight"
    source = open_source(at(tmp_path, [name, "b.weight"]))
    assert [layer.name for layer in source.layers()] == ["b.weight"]
    assert source.left_out[0].reason == f"its name has {len(name):,} characters, at most {LONGEST:,} are read"
    assert len(source.left_out[0].what) < 200
    assert {one.key for one in source.report().keys} == {name, "b.weight"}


def test_a_long_name_beside_an_adapters_is_left_out_with_its_length(tmp_path: Path):
    name = "lora_unet_" + "a_" * 300_000 + ".lora_down.weight"
    ref = at(tmp_path, [name, "lora_unet_b.hada_w1_a", "lora_unet_b.hada_w1_b"])
    with pytest.raises(SourceError, match="no update that is understood"):
        open_source(ref)
    text, size = header_of([name, "unet.b.lora_A.weight", "unet.b.lora_B.weight"], shape=(2, 2))
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    source = open_source(ref)
    assert source.low_rank == {"unet.b.weight"}
    assert any("characters, at most" in note.reason and len(note.what) < 200 for note in source.left_out)


def test_the_longest_name_that_is_read_is_a_layer(tmp_path: Path):
    names = ["a" * (LONGEST - 7) + ".weight", "b" * (LONGEST - 6) + ".weight"]
    assert [layer.name for layer in open_source(at(tmp_path, names)).layers()] == names[:1]


def test_wrappers_are_stripped_in_one_sweep():
    assert unwrapped("module." * 200_000 + "q.weight") == "q.weight"
    assert unwrapped("module." * 200_000 + "module") == "module"
    assert spelled("mid_block_" * 50_000 + "attentions_0").endswith("mid_block.attentions.0")


def test_many_tensors_of_eight_bits_with_their_scales(tmp_path: Path):
    names = [f"h.{i}.weight{end}" for i in range(20_000) for end in ("", "_scale")]
    source = open_source(at(tmp_path, names, "F8_E4M3"))
    assert not source.layers()
    assert len(source.left_out) == len(source.report().keys) == 40_000


def test_many_long_names_of_adapters(tmp_path: Path):
    stems = ["lora_unet_" + f"{i}_" * 100 for i in range(2_000)]
    names = [f"{stem}.{end}.weight" for stem in stems for end in ("lora_down", "lora_mid")]
    with pytest.raises(SourceError, match="no update that is understood"):
        open_source(at(tmp_path, names))


pieces = st.sampled_from(
    ["module.", "_orig_mod.", "a.", "lora_", "lora_unet_", ".lora_A", ".weight", "_scale", "é", "[:1]"]
)
repeated = st.lists(st.tuples(pieces, st.sampled_from([1, 2, 50, 2_000])), min_size=1, max_size=4).map(
    lambda parts: "".join(piece * count for piece, count in parts)
)


@settings(max_examples=max(8, settings.default.max_examples // 5))
@given(st.lists(repeated, min_size=1, max_size=3), st.sampled_from([1, 300]), st.sampled_from(["F32", "F8_E4M3"]))
def test_any_repeated_names_open_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, stems: list[str], count: int, dtype: str
):
    names = [f"{i}.{stem}" for i in range(count) for stem in stems]
    begun = time.process_time()
    try:
        source = open_source(at(tmp_path_factory.mktemp("any"), names, dtype))
    except SourceError:
        pass
    else:
        assert sorted(one.key for one in source.report().keys) == sorted(names)
    spent = time.process_time() - begun
    # A core that others share counts more seconds for the same work, so the measure is work of the same minute. Work
    # that grows with the square of a name's 2,000 parts takes some hundred times it.
    assert spent < 3 or spent < 40 * plain_seconds(tmp_path_factory.mktemp("plain"))
