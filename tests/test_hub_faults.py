"""What goes wrong between here and the Hub, and what becomes of it: right bytes, or an error that says why."""

import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hub_fixtures import QUICK, files, standin, tensors
from tests.hub_standin import HubStandIn
from uws_core.errors import HubError, UnreadableFile
from uws_core.nouns.models import ModelRef
from uws_core.sources.base import Source
from uws_core.sources.hub import hub
from uws_core.sources.hub.client import HubClient, RemoteFile, RetryPolicy, demanded_wait
from uws_core.sources.hub.files import HubBlob
from uws_core.sources.hub.ranges import fetch
from uws_core.sources.opening import open_source

__all__ = ["standin"]

LAYER = "blocks.1.q.weight"
SHAPE = (300, 200)
BLOB = "/blob/*/lab/m/model.safetensors"


@pytest.fixture
def source(standin: HubStandIn) -> Source:
    """A model whose header was read without trouble."""
    return open_source(ModelRef("lab/m", standin.add("lab/m", files(shape=SHAPE))))


def whole(source: Source) -> bool:
    return torch.equal(source.read(LAYER), tensors(shape=SHAPE)[LAYER])


# --- what passes


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(standin: HubStandIn, source: Source, status: int):
    standin.fail(BLOB, status=status, times=3)
    assert whole(source)
    assert standin.statuses()[status] == 3


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "1"}, {"ratelimit": '"api";r=0;t=1', "ratelimit-policy": '"fixed window";"api";q=5;w=9'}],
)
def test_a_server_that_names_a_wait_gets_it(standin: HubStandIn, source: Source, headers: dict[str, str]):
    standin.fail(BLOB, status=429, headers=headers)
    began = time.monotonic()
    assert whole(source)
    assert 1.0 <= time.monotonic() - began < 3.0


def test_a_wait_beyond_patience_is_said_and_not_waited(standin: HubStandIn, source: Source):
    standin.fail(BLOB, status=429, headers={"Retry-After": "3600"})
    began = time.monotonic()
    with pytest.raises(HubError, match="asks to wait 3600 s"):
        source.read(LAYER)
    assert time.monotonic() - began < 1.0


def test_the_demanded_wait_for_in_every_way_a_server_may_say_them():
    def soon(seconds: float) -> str:
        return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))

    assert demanded_wait({"Retry-After": "7"}) == 7
    assert 18 < (demanded_wait({"Retry-After": soon(20)}) or 0) <= 20
    assert demanded_wait({"Retry-After": soon(-20)}) == 0
    assert demanded_wait({"ratelimit": '"api";r=0;t=55'}) == 55
    # Requests are left: the limit is not what failed.
    assert demanded_wait({"ratelimit": '"api";r=3;t=55'}) is None
    assert demanded_wait({"Retry-After": "soon"}) is None
    assert demanded_wait({}) is None


def test_waits_double_up_to_a_longest_and_spread():
    retry = RetryPolicy(first_wait=1.0, longest_wait=8.0)
    for failed, expected in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (9, 8.0)]:
        waits = {retry.wait(failed, None) for _ in range(50)}
        assert all(0.75 * expected <= wait <= 1.25 * expected for wait in waits)
        assert len(waits) > 1
    assert retry.wait(1, 30.0) == 30.0


def test_an_answer_that_breaks_off_is_resumed_from_there(standin: HubStandIn, source: Source):
    standin.fail(BLOB, "truncated", keep=0.6, times=2)
    before = standin.bytes_sent(BLOB)
    assert whole(source)
    nbytes = 300 * 200 * 4
    assert standin.bytes_sent(BLOB) - before == nbytes
    starts = [
        int(one.headers["range"].removeprefix("bytes=").split("-")[0]) for one in standin.quiet() if one.status == 206
    ]
    assert len(starts) == 4
    assert [start - starts[1] for start in starts[1:]] == [
        0,
        int(nbytes * 0.6),
        int(nbytes * 0.6) + int((nbytes - int(nbytes * 0.6)) * 0.6),
    ]


def test_progress_renews_patience_and_a_standstill_ends_it(standin: HubStandIn, source: Source):
    standin.fail(BLOB, "truncated", keep=0.5, times=QUICK.tries * 2)
    assert whole(source)
    standin.fail(BLOB, "truncated", keep=0.0, times=100)
    with pytest.raises(HubError, match=r"cannot be reached|did not answer"):
        source.read(LAYER)


def test_a_server_that_is_too_slow_is_asked_again(standin: HubStandIn, source: Source):
    hub.client().retry = RetryPolicy(first_wait=0.001, timeout=0.1)
    standin.fail(BLOB, "slow", seconds=0.4, times=2)
    assert whole(source)
    standin.fail(BLOB, "slow", seconds=0.4, times=100)
    with pytest.raises(HubError, match="did not answer in time, also after several tries"):
        source.read(LAYER)


def test_patience_ends_and_says_with_what(standin: HubStandIn, source: Source):
    standin.fail("*", status=503, times=1000)
    with pytest.raises(HubError, match="failed with status 503, also after several tries"):
        source.read(LAYER)
    assert standin.statuses()[503] == QUICK.tries
    with pytest.raises(HubError, match=r"lab/other: the Hub failed with status 503"):
        open_source(ModelRef("lab/other", "main"))


def test_a_limit_of_requests_that_does_not_pass_is_called_that(standin: HubStandIn, source: Source):
    standin.fail(BLOB, status=429, times=1000)
    with pytest.raises(HubError, match="limit of requests is reached"):
        source.read(LAYER)


def test_looking_up_is_patient_too(standin: HubStandIn):
    standin.add("lab/m", files(shape=SHAPE))
    standin.fail("/api/models/lab/m", status=502, times=2)
    standin.fail("*/resolve/*", status=500, times=2)
    assert whole(open_source(ModelRef("lab/m", "")))


# --- what does not


def test_more_bytes_than_asked_for_are_refused(standin: HubStandIn, source: Source):
    standin.fail(BLOB, "too_long")
    with pytest.raises(UnreadableFile, match=r"model\.safetensors: the server sent more bytes"):
        source.read(LAYER)


def test_other_bytes_than_asked_for_are_refused(standin: HubStandIn, source: Source):
    standin.fail(BLOB, "shifted")
    with pytest.raises(UnreadableFile, match=r"asked for bytes \d+-\d+, the answer is 'bytes \d+-\d+/\d+'"):
        source.read(LAYER)


def test_a_server_without_ranges_does_not_make_us_read_everything(standin: HubStandIn, source: Source):
    standin.fail(BLOB, "whole")
    before = standin.bytes_sent(BLOB)
    with pytest.raises(UnreadableFile, match=r"ignores byte ranges.*download it"):
        source.read(LAYER)
    assert hub.client().header_sizes["model.safetensors"] == 4096
    assert before == 65536


def test_a_header_is_read_from_a_server_without_ranges(standin: HubStandIn):
    standin.fail(BLOB, "whole")
    opened = open_source(ModelRef("lab/m", standin.add("lab/m", files(shape=SHAPE))))
    assert len(opened.layers()) == 3


def test_a_file_that_changed_in_between_is_noticed(standin: HubStandIn, source: Source):
    hub.client().forget(RemoteFile("lab/m", source.ref.commit, "model.safetensors"))
    standin.fail("/lab/m/resolve/*", "etag")
    with pytest.raises(UnreadableFile, match="changed while it was read; open the collection again"):
        source.read(LAYER)


def test_an_exchanged_file_behind_a_known_address_is_noticed(standin: HubStandIn, source: Source):
    digest = next(key for key, data in standin.blobs.items() if len(data) > 10_000)
    standin.blobs[digest] = bytes(len(standin.blobs[digest]))
    with pytest.raises(UnreadableFile, match="changed while it was read"):
        source.read(LAYER)


def test_another_commit_than_asked_for_is_refused(standin: HubStandIn):
    commit = standin.add("lab/m", files(shape=SHAPE))
    other = standin.add("lab/m", files(5, shape=SHAPE))
    standin.repos["lab/m"].refs[commit] = other
    hub.look_up(ModelRef("lab/m", other))
    hub.client().models["lab/m", commit] = (
        hub.client().models["lab/m", other].__class__("lab/m", commit, files=("model.safetensors",))
    )
    with pytest.raises(UnreadableFile, match=f"asked for commit {commit[:12]}, the Hub answered with {other[:12]}"):
        open_source(ModelRef("lab/m", commit))


def test_a_file_that_vanished_is_named(standin: HubStandIn):
    commit = standin.add("lab/m", files())
    hub.look_up(ModelRef("lab/m", commit))
    del standin.repos["lab/m"].commits[commit]["model.safetensors"]
    with pytest.raises(HubError, match="lab/m: a file that was expected is not in the repository"):
        open_source(ModelRef("lab/m", commit))


def test_an_empty_file_is_no_model(standin: HubStandIn):
    commit = standin.add("lab/m", {"model.safetensors": b""})
    with pytest.raises(UnreadableFile, match=r"lab/m: model\.safetensors: .*8 bytes of header length; found 0"):
        open_source(ModelRef("lab/m", commit))


def test_one_piece_that_fails_fails_the_read_after_the_others_ended(
    standin: HubStandIn, source: Source, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(HubBlob, "piece", 20_000)
    standin.fail(BLOB, "shifted", skip=3)
    with pytest.raises(UnreadableFile, match="asked for bytes"):
        source.read(LAYER)
    assert whole(source)


# --- any mixture of what passes


PASSING = st.lists(
    st.one_of(
        st.tuples(st.just("status"), st.sampled_from([429, 500, 503]), st.just(0.0)),
        st.tuples(st.just("truncated"), st.just(0), st.floats(0.0, 0.99)),
    ),
    max_size=5,
)


# Longer than a first read, and no two stretches alike.
CONTENT = b"".join(i.to_bytes(4, "big") for i in range(30_000))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trouble=PASSING, start=st.integers(0, 90_000), length=st.integers(0, 30_000), piece=st.integers(500, 40_000))
def test_whatever_passes_the_bytes_are_right(
    standin: HubStandIn, trouble: list[tuple[str, int, float]], start: int, length: int, piece: int
):
    content = CONTENT
    commit = standin.add("lab/bytes", {"x.bin": content})
    client = HubClient(endpoint=standin.url, retry=RetryPolicy(tries=7, first_wait=0.0001, longest_wait=0.0002))
    standin.faults.clear()
    for kind, status, keep in trouble:
        standin.fail("*", kind, status=status or 500, keep=keep)
    blob = HubBlob(client, RemoteFile("lab/bytes", commit, "x.bin"))
    blob.piece = piece
    assert bytes(blob.read(start, start + length)) == content[start : start + length]


def test_bytes_beyond_the_end_are_not_there(standin: HubStandIn):
    commit = standin.add("lab/bytes", {"x.bin": b"0123456789"})
    place = RemoteFile("lab/bytes", commit, "x.bin")
    with pytest.raises(UnreadableFile, match="expected bytes 5 to 11, it ends at 10"):
        HubBlob(hub.client(), place).read(5, 11)
    target = memoryview(bytearray(8))
    assert fetch(hub.client(), place, 6, target)[0] == 4
    assert bytes(target[:4]) == b"6789"
    assert fetch(hub.client(), place, 10, target)[0] == 0
