"""Synthetic collections as folders on disk, read like any other collection."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from uws_core.nouns.models import Value
from uws_core.zoo import mixed
from uws_core.zoo.synthetic import GENERATORS, SyntheticCollection

# Part of every folder's name: raise it when a generator changes, so that old folders are not reused.
VERSION = 1
MODELS_FOLDER = "models"
BASE_FILE = "base.safetensors"
TABLE_FILE = "models.csv"
TRUTH_FILE = "truth.csv"
# The one generated collection that is no stack of equal layers.
MIXED = "mixed"


def folder_name(name: str) -> str:
    """Name of the folder of the synthetic collection `name` inside the cache folder."""
    return f"{name}-{VERSION}"


def build(name: str, cache: Path) -> Path:
    """The folder of the generated collection `name` inside `cache`; built if it is missing (0.1 s, 2 MB).

    A complete folder appears by rename: a killed process leaves no partial folder, and of two processes that build at
    the same time one is used.

    Raises:
        KeyError: there is no generator of that name.
        OSError: the cache folder cannot be written.
    """
    generate, ready = None if name == MIXED else GENERATORS[name], cache / folder_name(name)
    if ready.is_dir():
        return ready
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
    try:
        if generate is None:
            mixed.write(draft)
        else:
            write(generate(), draft)
        draft.rename(ready)
    except OSError:
        # Another process was faster. Any other failure leaves no folder and is raised.
        if not ready.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ready


def write(collection: SyntheticCollection, into: Path) -> Path:
    """The folder `into/models` with a float32 file a model and `models.csv`; `truth.csv` and the base lie beside it."""
    folder = into / MODELS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for i, label in enumerate(collection.table["model"]):
        model = {name: np.ascontiguousarray(stack[i], dtype=np.float32) for name, stack in collection.layers.items()}
        save_file(model, folder / f"{label}.safetensors")
    if collection.base is not None:
        save_file({name: weights.astype(np.float32) for name, weights in collection.base.items()}, into / BASE_FILE)
    write_table(folder / TABLE_FILE, collection.table)
    write_table(into / TRUTH_FILE, {"model": collection.table["model"], **collection.truth})
    return folder


def write_table(path: Path, columns: Mapping[str, Sequence[Value]]) -> None:
    """Write columns of equal length as a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
