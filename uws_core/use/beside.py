"""What of a member is not compressed and travels with it: tensors, and the files that loading it needs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from uws_core.errors import CollectionError
from uws_core.nouns.models import ModelRef
from uws_core.sources.base import Portable
from uws_core.sources.companions import companions
from uws_core.sources.formats.subspace_files import FILES, UNTOUCHED, untouched_name
from uws_core.sources.opening import open_source

# The types that a rebuilt weight can be written in; other stored types come back in float32.
_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def portable(ref: ModelRef) -> Portable:
    """Returns a model as a source that can be stored in two parts.

    Raises:
        CollectionError: its format cannot, such as a pickled file.
    """
    source = open_source(ref)
    if not isinstance(source, Portable):
        raise CollectionError(f"{ref}: models in this format cannot be compressed; convert them to safetensors first")
    return source


def write_beside(ref: ModelRef, layers: Sequence[str], folder: Path, number: int) -> dict[str, Any]:
    """Writes what of a member is not in these layers, and returns that part of its entry in the index.

    Tensors go to `untouched/`, small files to `files/`, each content once. What an earlier writer finished is kept.
    """
    source, own = portable(ref), open_source(ref)
    adapter = own.format == "adapter"
    path = folder / untouched_name(number)
    if not path.exists():
        (folder / UNTOUCHED).mkdir(exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in source.untouched(layers).items()}
        config = dict(source.config) if adapter else {}
        begun = path.with_suffix(".begun")
        save_file(tensors, begun, metadata={"config": json.dumps(config, sort_keys=True)})
        begun.rename(path)
    return {
        "commit": ref.commit,
        "files": _write_files(ref, folder / FILES),
        "ranks": {layer: source.rank(layer) for layer in layers} if adapter else {},
        "stored_as": {layer: source.stored_as(layer) for layer in layers},
        "types": {layer: _TYPES.get(own.stored_type(layer), "float32") for layer in layers},
    }


def _write_files(ref: ModelRef, folder: Path) -> dict[str, str]:
    """The files beside a model's weights by name, each written under the digest of its content."""
    digests = {}
    for name, blob in companions(ref).items():
        content = bytes(blob.read(0, blob.size))
        digest = digests[name] = sha256(content).hexdigest()[:40]
        folder.mkdir(exist_ok=True)
        if not (folder / digest).exists():
            begun = folder / f"{digest}.{os.getpid()}"
            begun.write_bytes(content)
            begun.rename(folder / digest)
    return digests
