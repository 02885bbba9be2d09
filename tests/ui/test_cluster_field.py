"""The about page sends jobs to a cluster, and takes them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

import uws_core as uws
from tests.loopback import Cluster
from tests.ui.conftest import Open
from uws_core import cluster
from uws_core.jobs import JobStatus
from uws_core.ui import compute, grams

pytest.importorskip("distributed", reason="clusters need requirements-cluster.txt")


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "cluster").mkdir()
    running = Cluster(tmp_path / "cluster")
    running.add_worker()
    yield running
    running.close()


def use(app: AppTest, address: str) -> str:
    """What the page says after the address was given."""
    app.text_input[0].set_value(address)
    next(button for button in app.button if button.label == "Use").click().run()
    assert not app.exception
    return next(each.value.replace("\\", "") for each in app.caption if "Jobs run" in each.value)


def test_an_address_that_cannot_be_used_leaves_jobs_here(
    open_page: Open, restart: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_TIMEOUT_SECONDS", 1)
    said = use(open_page("about"), "tcp://127.0.0.1:1")
    assert said.startswith("No Dask scheduler answers at 'tcp://127.0.0.1:1'")
    assert said.endswith("Jobs run on this machine.")
    assert compute.scheduler() is None


@pytest.mark.parametrize("address", ["tcp://10.0.0.7:8786", "tcp://127.0.0.1.evil.example:8786", "tcp://a@b:1"])
def test_a_page_sends_nobody_to_another_machine(
    open_page: Open, restart: Callable[[], None], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    restart()
    monkeypatch.setattr(cluster, "inspected", lambda address: pytest.fail(f"{address} was asked"))
    assert "start the server with UWS_SCHEDULER set to it" in use(open_page("about"), address).replace("\\", "")
    assert compute.scheduler() is None


def test_what_was_named_at_start_may_be_chosen(restart: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    restart()
    monkeypatch.setenv("UWS_SCHEDULER", "tcp://10.0.0.7:8786, tls://far.example:8786")
    assert compute.scheduler() == "tcp://10.0.0.7:8786"
    asked: list[str] = []
    state = cluster.ClusterState("tls://far.example:8786", 1, 1, "")
    monkeypatch.setattr(cluster, "inspected", lambda address: asked.append(address) or state)
    assert compute.use_scheduler("tls://far.example:8786") == state
    assert asked == ["tls://far.example:8786"]


def test_jobs_run_on_the_cluster_until_it_is_taken_away(
    open_page: Open,
    restart: Callable[[], None],
    loopback: Cluster,
    results_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = open_page("about")
    monkeypatch.setenv("UWS_CACHE", str(results_folder))
    assert use(app, loopback.address) == f"Jobs run on {loopback.address}: 1 workers, 1 threads."
    collection = uws.collect("demo:planted")
    names = [layer.name for layer in collection.layers]
    # Nothing may be computed here.
    with monkeypatch.context() as patched:
        patched.setattr(
            "uws_core.passes.layer_scan.compute_batch", lambda *given: pytest.fail("computed on this machine")
        )
        job = grams.start_scan(collection, names)
        ended = grams.jobs().wait(job.key, seconds=60)
    assert (ended.status, ended.error) == (JobStatus.DONE, "")
    assert grams.missing(collection, names) == ()
    loopback.scheduler.kill()
    loopback.scheduler.wait()
    monkeypatch.setattr(cluster, "_TIMEOUT_SECONDS", 1)
    other = uws.collect("demo:untrained")
    job = grams.start_scan(other, ["pos_embed"])
    ended = grams.jobs().wait(job.key, seconds=60)
    assert ended.status is JobStatus.FAILED
    assert "No Dask scheduler answers" in ended.error
    assert use(app, "") == "Jobs run on this machine."
    grams.start_scan(other, ["pos_embed"])
    assert grams.jobs().wait(job.key, seconds=60).status is JobStatus.DONE


def test_a_layer_that_fails_leaves_the_others_of_the_job(
    open_page: Open, restart: Callable[[], None], results_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page("about")
    monkeypatch.setenv("UWS_CACHE", str(results_folder))
    (tmp_path / "models").mkdir()
    for number in range(3):
        weights = {"blocks.0.w": np.full((4, 4), np.nan), "blocks.1.w": np.eye(4) * number}
        save_file(weights, tmp_path / "models" / f"model-{number}.safetensors")
    collection = uws.collect(tmp_path / "models")
    job = grams.start_scan(collection, ["blocks.0.w", "blocks.1.w"])
    ended = grams.jobs().wait(job.key, seconds=60)
    assert ended.status is JobStatus.FAILED
    assert "1 of 2 layers failed, the others are done: blocks.0.w: 0 of 3 models have finite" in ended.error
    assert grams.missing(collection, ["blocks.0.w", "blocks.1.w"]) == ("blocks.0.w",)
