"""The small files that belong to a model beside its weights: configuration, tokenizer, templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from uws_core.nouns.models import ModelRef
from uws_core.sources.base import on_hub
from uws_core.sources.files.blob import Blob, FileBlob
from uws_core.sources.files.folder import is_weights
from uws_core.sources.files.tensors import MODEL_CONFIG

# What transformers, PEFT and sentence-transformers read beside the weights; never the weights, logs or trainers' state.
_CARRIED: Final = re.compile(
    r"(generation_|tokenizer_|preprocessor_|processor_|video_preprocessor_|image_processor_)?config\.json"
    r"|tokenizer\.json|special_tokens_map\.json|added_tokens\.json|chat_template\.json|vocab\.json|vocab\.txt"
    r"|merges\.txt|modules\.json|.+\.(model|tiktoken|jinja)|(configuration|modeling|tokenization|processing)_\w+\.py"
)
# The largest tokenizer that is in use takes 35 MB.
LARGEST: Final = 128 * 2**20


def companions(ref: ModelRef) -> dict[str, Blob]:
    """The files beside a model's weights that loading it needs, by plain name; reads none of them.

    A single weights file has those of its folder only where no other weights lie there.
    """
    files = _beside(ref)
    carried = {PurePosixPath(name).name: blob for name, blob in sorted(files.items())}
    return {name: blob for name, blob in carried.items() if _CARRIED.fullmatch(name) and blob.size <= LARGEST}


def model_config(ref: ModelRef) -> bytes:
    """The model's own `config.json`; empty where there is none."""
    blob = companions(ref).get(MODEL_CONFIG)
    return bytes(blob.read(0, blob.size)) if blob else b""


def _beside(ref: ModelRef) -> Mapping[str, Blob]:
    if on_hub(ref):
        from uws_core.sources.hub import hub

        folder = str(PurePosixPath(ref.file).parent) if PurePosixPath(ref.file).suffix else ref.file or "."
        files = hub.files_of(ref)
        named = [name for name in files if str(PurePosixPath(name).parent) == folder]
        # Looking at a file costs a request, so only those that may be carried are opened.
        return {name: files[name] for name in named if _CARRIED.fullmatch(PurePosixPath(name).name)}
    path = Path(ref.repo)
    folder_path = path if path.is_dir() else path.parent
    if path.is_dir() and ref.file:
        inner = path / ref.file
        folder_path = inner if inner.is_dir() else inner.parent
    elif path.is_file() and sum(is_weights(file) for file in folder_path.iterdir()) != 1:
        return {}
    return {file.name: FileBlob(file) for file in folder_path.iterdir() if file.is_file()}
