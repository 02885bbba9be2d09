"""The data of the adapt page: the captured gradient, the log of a training, and the job that writes it."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path

from uws_core.errors import OutsideRoot, StoreError
from uws_core.jobs import JobState, Report
from uws_core.nouns.adapting import RATES, GradientShare, Row
from uws_core.nouns.models import Collection
from uws_core.store.results import default_path, default_store
from uws_core.ui import folders, tasks
from uws_core.ui.adapt.controls import AdaptQuery
from uws_core.ui.grams import jobs
from uws_core.ui.tasks import Task
from uws_core.use.adapt.log import Log, has_results, open_log

# Of one step of a built-in network on one core of a modest machine.
STEP_SECONDS = 0.012


def trainable_tasks(collection: Collection) -> tuple[str, ...]:
    """The tasks that can be trained on a collection here; none where its networks are elsewhere."""
    # torch is loaded only where it is needed.
    from uws_core.use.adapt import builtin

    return builtin.tasks_of(collection)


def gradient_task(query: AdaptQuery, collection: Collection) -> Task:
    """Fitting the basis without the task's group and taking one batch's gradient; small, so done at once."""
    return Task(_gradient_key(query), "Take one batch's gradient", 2.0, 0, lambda report: _gradient(query, collection))


def gradient(query: AdaptQuery) -> tuple[GradientShare, ...]:
    """The captured gradient of a query; empty where the store has dropped it."""
    raw = default_store().get(f"{_gradient_key(query)}/shares")
    if raw is None:
        return ()
    return tuple(
        GradientShare(**{**share, "k": tuple(share["k"]), "members": tuple(share["members"])})
        for share in json.loads(raw)
    )


def folder_of(query: AdaptQuery) -> Path:
    """The folder of a query's log: beside the results, so that it outlives the server.

    Raises:
        StoreError: there is no home folder.
    """
    results = default_path()
    return results.with_name(f"{results.name}-trainings") / f"{query.task}-{tasks.key_of('adapt', query)[-12:]}"


def own_log(query: AdaptQuery) -> Log | None:
    """What has been trained of a query so far; None before anything was.

    Raises:
        UnreadableFile: its files are damaged.
    """
    folder = folder_of(query)
    return open_log(folder) if has_results(folder) else None


def log_in(text: str) -> Log:
    """The log in a folder that this app may read.

    Raises:
        OutsideRoot: it, or a link inside it, leads outside.
        SourceError: there is no such folder, or no log in it.
    """
    folder, roots = folders.allowed(text), folders.roots()
    for entry in (*folder.iterdir(), *folder.glob("*/*")):
        if entry.is_symlink() and not any(entry.resolve().is_relative_to(root) for root in roots):
            raise OutsideRoot(f"{entry} is a link that leads outside the folders this app may read; copy the file")
    return open_log(folder)


def start(query: AdaptQuery, collection: Collection) -> JobState:
    """The job that trains a query's rows, from where its log ends."""
    from uws_core.use.adapt import builtin
    from uws_core.use.adapt.options import AdaptOptions

    options = AdaptOptions(steps=query.steps, seeds=tuple(range(query.seeds)), rates=RATES, folder=folder_of(query))

    def work(report: Report) -> None:
        rows = tuple(map(Row, query.rows))
        builtin.compare(collection, query.task, kept=query.kept, rows=rows, options=options, report=report)

    return jobs().submit(job_key(query), work, title=f"Train {query.task}")


def job_key(query: AdaptQuery) -> str:
    """The key of the job that trains a query's rows."""
    return tasks.key_of("adapt training", query)


def seconds(query: AdaptQuery, finished: int) -> float:
    """About how long the rest of the trainings takes on one core."""
    return max(query.trainings - finished, 0) * query.steps * STEP_SECONDS


def adapter_bytes(folder: Path, task: str, row: str, target: str) -> bytes:
    """The trained row as a zipped LoRA adapter; the head goes along for PEFT, which alone can load it.

    Raises:
        UwsError: the parameters were not kept.
    """
    from uws_core.use.adapt.export import export_adapter

    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="uws-adapter-") as place:
        written = export_adapter(
            folder, Path(place) / "adapter", row=row, task=task, target=target, with_head=target == "peft"
        )
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(written.iterdir()):
                archive.write(file, file.name)
    return buffer.getvalue()


def _gradient_key(query: AdaptQuery) -> str:
    return tasks.key_of("adapt gradient", query.collection, query.fingerprint, query.task, query.kept)


def _gradient(query: AdaptQuery, collection: Collection) -> None:
    from uws_core.use.adapt import builtin

    shares = builtin.captured(collection, query.task, kept=query.kept)
    try:
        stored = json.dumps([asdict(share) for share in shares]).encode()
        default_store().put(f"{_gradient_key(query)}/shares", stored)
    except StoreError:
        return
