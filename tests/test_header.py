import json
import math
import struct

import pytest
import safetensors
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uws_core.errors import UnreadableFile
from uws_core.nouns.models import LayerKey, LeftOut
from uws_core.sources.files.header import BITS, PREFIX, Header, as_layer, header_length, parse_header

# Names that the library also knows; it has renamed none of these since its first release.
DTYPES = ["BOOL", "U8", "I8", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64", "U64"]


# Some thousands over all tests here; the wide profile takes ten times as many, and new ones each time.
HOSTILE = settings(max_examples=max(400, 5 * settings.default.max_examples))


def read(raw: bytes) -> Header:
    length = header_length(raw[:PREFIX], file_size=len(raw))
    return parse_header(raw[PREFIX : PREFIX + length], file_size=len(raw))


def file_of(header: object, data: int = 0, *, claimed: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + bytes(data)


def entry(
    dtype: str = "F32", shape: tuple[int, ...] = (2, 3), at: int = 0, stop: int | None = None
) -> dict[str, object]:
    size = BITS.get(dtype, 8) * math.prod(shape) // 8
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size if stop is None else stop]}


def test_spans_are_counted_from_the_first_byte_of_the_file():
    raw = file_of({"__metadata__": {"a": "b"}, "y": entry(at=24), "x": entry("F64", (3,))}, 48)
    header = read(raw)
    assert list(header.spans) == ["x", "y"]
    assert header.data_start == len(raw) - 48
    assert (header.spans["y"].start, header.spans["y"].stop) == (len(raw) - 24, len(raw))
    assert header.spans["x"].nbytes == 24
    assert header.metadata == {"a": "b"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "found 0 bytes"),
        (b"hello", "found 5 bytes"),
        (b"PK\x03\x04" + bytes(100), "no safetensors file"),
        (file_of({}, claimed=100 * 10**9), "claims 100,000,000,000 bytes"),
        (file_of({}, claimed=2**64 - 1), "claims 18,446,744,073,709,551,615 bytes"),
        (file_of(b"[]"), "does not begin with"),
        (file_of(b"{]"), "not JSON"),
        (file_of(b'{"a":' * 100_000), "not JSON"),
        (file_of(b'{"\xff":1}'), "not JSON"),
        (file_of(b'{"x":' + b"9" * 10_000 + b"}"), "not JSON"),
        (file_of({"__metadata__": {"a": 1}}), "__metadata__"),
        (file_of({"x": [1]}), "not exactly dtype, shape and data_offsets"),
        (file_of({"x": entry() | {"extra": 1}}, 24), "not exactly dtype, shape and data_offsets"),
        (file_of({"x": entry("F31")}, 24), "unknown dtype 'F31'"),
        (file_of({"x": entry() | {"dtype": ["F32"]}}, 24), "unknown dtype"),
        (file_of({"x": entry() | {"shape": [2, -3]}}, 24), "whole numbers"),
        (file_of({"x": entry() | {"shape": [2, True]}}, 24), "whole numbers"),
        (file_of({"x": entry() | {"shape": [2.0, 3]}}, 24), "whole numbers"),
        (file_of({"x": entry() | {"data_offsets": [0, 12, 24]}}, 24), "whole numbers"),
        (file_of({"x": entry(stop=20)}, 20), "takes 24 bytes, its offsets 20"),
        (file_of({"x": entry(), "y": entry(at=12)}, 36), "'y' begins at byte"),
        (file_of({"x": entry(), "y": entry(at=28)}, 52), "overlap or hole"),
        (file_of({"x": entry()}, 20), "truncated or changed"),
        (file_of({"x": entry()}, 30), "truncated or changed"),
        (file_of({"x": entry("F4", (3, 1))}, 1), "takes 1.5 bytes"),
        (file_of(b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"dtype":"F16"}}', 4), "'dtype' twice"),
        (file_of({"x": entry(shape=(2**31, 2**31))}, 8), "whole numbers"),
    ],
)
def test_a_header_that_lies_is_refused_with_the_lie(raw: bytes, message: str):
    with pytest.raises(UnreadableFile, match=message):
        read(raw)


def test_a_tensor_named_twice_is_refused():
    one = json.dumps(entry())
    with pytest.raises(UnreadableFile, match="'x' twice"):
        read(file_of(f'{{"x":{one},"x":{one}}}'.encode(), 24))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 3), (8, 3)),
        ((1, 768), (1, 768)),
        ((8, 3, 3, 3), (8, 27)),
        ((8, 4, 5), (8, 20)),
        ((8, 4, 16), (8, 64)),
        ((2, 4096, 2900), (8192, 2900)),
        ((8, 4, 2, 2, 2), (8, 32)),
        ((1, 197, 768), (197, 768)),
        ((1, 16, 3, 3), (1, 144)),
    ],
)
def test_kernels_and_embeddings_become_matrices(shape: tuple[int, ...], expected: tuple[int, int]):
    assert as_layer("w", "F32", shape) == LayerKey("w", expected)


def test_a_long_kernel_is_told_from_a_stack_of_experts_by_its_name():
    assert as_layer("pos_conv.weight_v", "F32", (8, 4, 128)) == LayerKey("pos_conv.weight_v", (8, 512))


@pytest.mark.parametrize("shape", [(), (4,), (1, 1, 4), (4, 1, 1), (1, 1, 1, 1), (0, 3)])
def test_vectors_are_no_layers(shape: tuple[int, ...]):
    assert isinstance(as_layer("w", "F32", shape), LeftOut)


# Headers that are nearly right: two tensors whose numbers may be off by a little, and any JSON in place of one.
small = st.integers(-1, 5)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)


near = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "F31"]),
        "shape": st.lists(small, max_size=3),
        "data_offsets": st.tuples(small.map(lambda x: 4 * x), small.map(lambda x: 4 * x)).map(list),
    }
)


headers = st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), near | anything, max_size=3)


def sequential(kinds: list[tuple[str, list[int]]]) -> dict[str, object]:
    found, at = {}, 0
    for i, (dtype, shape) in enumerate(kinds):
        found[f"t{i}"] = entry(dtype, tuple(shape), at)
        at = found[f"t{i}"]["data_offsets"][1]
    return found


right = st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4)), max_size=5).map(
    sequential
)


def ours_and_theirs(raw: bytes) -> tuple[bool, bool]:
    try:
        read(raw)
        ours = True
    except UnreadableFile:
        ours = False
    try:
        safetensors.deserialize(raw)
        theirs = True
    except safetensors.SafetensorError:
        theirs = False
    return ours, theirs


@HOSTILE
@given(headers | right, st.integers(0, 80))
@example({"__metadata__": {}}, 0)
def test_what_is_accepted_the_safetensors_library_accepts_too(header: dict[str, object], data: int):
    ours, theirs = ours_and_theirs(file_of(header, data))
    assert theirs or not ours


@HOSTILE
@given(right)
def test_what_the_safetensors_library_writes_is_accepted(header: dict[str, object]):
    data = max((one["data_offsets"][1] for one in header.values()), default=0)
    assert ours_and_theirs(file_of(header, data)) == (True, True)


@HOSTILE
@given(right, st.data())
def test_a_real_file_with_bytes_changed_is_read_or_refused(header: dict[str, object], chance: st.DataObject):
    data = max((one["data_offsets"][1] for one in header.values()), default=0)
    raw = bytearray(file_of(header, data))
    for _ in range(chance.draw(st.integers(1, 4))):
        raw[chance.draw(st.integers(0, len(raw) - 1))] = chance.draw(st.integers(0, 255))
    raw = raw[: chance.draw(st.integers(0, len(raw)))] if chance.draw(st.booleans()) else raw
    ours, theirs = ours_and_theirs(bytes(raw))
    assert theirs or not ours


@HOSTILE
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes):
    ours, theirs = ours_and_theirs(raw)
    assert theirs or not ours
