"""Models on the Hub, opened without downloading them: `owner/name@revision` becomes a commit, files become ranges.

A repository is one more place that offers files: headers and indexes are read first, a few kB a model, then exactly the
bytes of the requested layers. Headers are cached in memory, read bytes on disk, up to `UWS_HUB_KEEP`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final

from huggingface_hub import cached_assets_path, snapshot_download

from uws_core.errors import HubError, UnsupportedFormat
from uws_core.nouns.cost import bytes_from
from uws_core.nouns.hub import HubListing, HubModel, HubQuery
from uws_core.nouns.models import ModelRef
from uws_core.sources.files.blob import Blob, FileBlob
from uws_core.sources.files.shards import SUFFIX, layout_of
from uws_core.sources.files.tensors import Tensors, open_tensors
from uws_core.sources.hub import models
from uws_core.sources.hub.client import HubClient
from uws_core.sources.hub.errors import TOKEN_VARIABLE
from uws_core.sources.hub.files import HubBlob, HubFiles
from uws_core.sources.hub.models import Report
from uws_core.sources.hub.range_cache import RangeCache

# The limit of the range cache on disk, such as 20GiB; 0 switches it off.
KEEP_VARIABLE: Final = "UWS_HUB_KEEP"
# A layer of 4096 x 4096 in bfloat16 of 250 models.
KEEP: Final = "8GiB"
# A model's headers take about 150 kB once parsed.
_OPEN_MODELS: Final = 2048
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# Raised when a cached description gets another form.
_ABOUT: Final = 1
# Files that every new repository has.
_BARE: Final = frozenset({".gitattributes", ".gitignore", "README.md", "LICENSE"})


def client() -> HubClient:
    """The process's client, for the endpoint and the token that the environment names now."""
    return _client(os.environ.get("HF_ENDPOINT", ""), os.environ.get(TOKEN_VARIABLE, ""))


def find(query: HubQuery | str, *, report: Report | None = None) -> HubListing:
    """The models that a query asks for, as a table before anything of them is read.

    Raises:
        HubError: the query asks for nothing or is no query, or the Hub cannot be reached.
    """
    try:
        wanted = HubQuery.parse(query) if isinstance(query, str) else query
    except ValueError as error:
        raise HubError(f"this is no query: {error}") from error
    listing = models.find(client(), wanted, report=report)
    for model in listing.models:
        _note(client(), model)
    return listing


def look_up(ref: ModelRef) -> HubModel:
    """The description of one model; a commit that was listed or looked up before takes no request.

    Raises:
        HubError: gated, private, missing, without that revision, unreachable; the message says which.
    """
    here = client()
    found = here.models.get((ref.repo, ref.commit)) or _cached_model(here, ref) or models.look_up(here, ref)
    _note(here, found)
    return replace(found, part=ref.part)


def at_commit(ref: ModelRef) -> ModelRef:
    """The reference with the commit that its revision names now, and the name the repository has now.

    Raises:
        HubError: see `look_up`.
    """
    return look_up(ref).ref


def files_of(ref: ModelRef) -> Mapping[str, Blob]:
    """The files of a model at a commit by name; whole ones from the client's cache where they were downloaded.

    Raises:
        HubError: see `look_up`.
    """
    model = look_up(ref)
    if _BARE.issuperset(model.files):
        raise HubError("empty: the repository holds no files but its description")
    return HubFiles(client(), model, range_cache())


def tensors_at(ref: ModelRef) -> Tensors:
    """The tensors of a model at a commit; headers are read once a process. Price: a request a file, seldom two.

    Raises:
        SourceError: the repository is empty, holds no safetensors, or cannot be read.
    """
    return _tensors(client(), ModelRef.of_part(ref.repo, ref.commit, file=ref.file))


def weights_digest(ref: ModelRef) -> str:
    """The first half of the sha256 of a model's weights, by the tags that the Hub sent; empty if one is unknown.

    Copies under other commits have the same. Price: none, the tags came with the headers.
    """
    tags = [blob.tag for blob in tensors_at(ref).blobs if isinstance(blob, FileBlob | HubBlob)]
    if not tags or not all(_SHA256.fullmatch(tag) for tag in tags):
        return ""
    return (tags[0] if len(tags) == 1 else sha256("".join(sorted(tags)).encode()).hexdigest())[:32]


def download(refs: Sequence[ModelRef], *, report: Report | None = None) -> None:
    """Downloads weights whole into the client's own cache, where reading finds them from then on.

    Raises:
        HubError: one cannot be had, and which; those before it stay.
    """
    here = client()
    for index, ref in enumerate(refs):
        if report:
            report(index / len(refs), f"{ref.repo}: model {index + 1} of {len(refs)}")
        model = look_up(ref)
        # Only the files that reading a model opens: weights, index and configurations.
        layout = layout_of(model.files, model.part)
        weights = [name for name in model.files if name.endswith(SUFFIX)] if layout.index else list(layout.files)
        beside = [name for name in model.files if name == layout.index or name.endswith("config.json")]
        call = partial(
            snapshot_download,
            model.repo,
            revision=model.commit,
            allow_patterns=[*weights, *beside],
            endpoint=here.endpoint,
            token=here.token_or_no,
        )
        try:
            here.ask(call, repo=ref.repo, revision=ref.commit)
        except HubError as error:
            raise HubError(f"{ref.repo}: {error}") from error
    _tensors.cache_clear()


def _note(here: HubClient, model: HubModel) -> None:
    """Caches a description by commit, also under the name that was requested; a branch may move, so it is not cached.

    Only public models are cached on disk: for others the Hub decides whether a token is still valid.
    """
    plain = replace(model, part="")
    if (model.repo, model.commit) in here.models:
        return
    for name in filter(None, (model.repo, model.asked_as)):
        here.models[name, model.commit] = plain
    if model.open_to_all and model.commit and (cache := range_cache()):
        text = json.dumps(asdict(plain)).encode()
        cache.keep(_about(here, model.repo, model.commit), 0, memoryview(text), size=len(text))


def _cached_model(here: HubClient, ref: ModelRef) -> HubModel | None:
    """The cached description of a model at a full commit, which cannot have changed; None if absent or damaged."""
    cache = range_cache()
    key = _about(here, ref.repo, ref.commit)
    size = cache.size(key) if cache and _COMMIT.fullmatch(ref.commit) else None
    if cache is None or size is None:
        return None
    target = bytearray(size)
    if cache.fill(key, 0, memoryview(target)):
        return None
    found = json.loads(target)
    return HubModel(**found | {"files": tuple(found["files"]), "tags": tuple(found["tags"])})


def _about(here: HubClient, repo: str, commit: str) -> str:
    return f"{here.endpoint} {repo} {commit} about {_ABOUT}"


@lru_cache(maxsize=4)
def _client(endpoint: str, token: str) -> HubClient:
    return HubClient(endpoint=endpoint or None, token=token or None)


@lru_cache(maxsize=_OPEN_MODELS)
def _tensors(here: HubClient, ref: ModelRef) -> Tensors:
    files = files_of(ref)
    try:
        return open_tensors(files, layout_of(files.keys(), ref.part))
    except UnsupportedFormat as error:
        raise UnsupportedFormat(f"{error}; nothing was downloaded") from error


def range_cache() -> RangeCache | None:
    """The cache of byte ranges on disk, or None when it is switched off.

    Raises:
        HubError: `UWS_HUB_KEEP` is no amount of bytes.
    """
    return _range_cache(os.environ.get(KEEP_VARIABLE) or KEEP)


@lru_cache(maxsize=4)
def _range_cache(text: str) -> RangeCache | None:
    """A folder inside the assets folder that the client has for other programs."""
    try:
        limit = bytes_from(text)
    except ValueError as error:
        raise HubError(f"{KEEP_VARIABLE}: {error}") from error
    if not limit:
        return None
    folder = cached_assets_path("uws", namespace="hub", subfolder="slices")
    folder.chmod(0o700)
    return RangeCache(folder, limit)
