"""The files of a repository at a commit, read by ranges: from the Hub, the range cache, or a whole download."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from huggingface_hub import try_to_load_from_cache

from uws_core.errors import SourceError, UnreadableFile
from uws_core.nouns.hub import HubModel
from uws_core.sources.files.blob import Blob, FileBlob
from uws_core.sources.files.header import FIRST_READ, LONGEST, PREFIX
from uws_core.sources.files.shards import SUFFIX
from uws_core.sources.hub.client import HubClient, RemoteFile
from uws_core.sources.hub.range_cache import RangeCache
from uws_core.sources.hub.ranges import Facts, fetch

# A first read ends at a round number: headers of one architecture differ by the digits in their offsets.
_ROUND: Final = 4096
_LONGEST_GUESS: Final = 2**20


class HubFiles(Mapping[str, Blob]):
    """Every file of a model by name; no request is sent before a file is read."""

    def __init__(self, client: HubClient, model: HubModel, range_cache: RangeCache | None = None) -> None:
        self._client = client
        self._model = model
        self._range_cache = range_cache
        self._blobs: dict[str, Blob | None] = dict.fromkeys(model.files)

    def __getitem__(self, name: str) -> Blob:
        found = self._blobs[name]
        if found is None:
            found = self._blobs[name] = self._opened(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._blobs)

    def __len__(self) -> int:
        return len(self._blobs)

    def _opened(self, name: str) -> Blob:
        model = self._model
        whole = try_to_load_from_cache(model.repo, name, revision=model.commit)
        if isinstance(whole, str):
            return FileBlob(Path(whole), name)
        file = RemoteFile(model.repo, model.commit, name)
        return HubBlob(self._client, file, range_cache=self._range_cache, restricted=not model.open_to_all)


class HubBlob:
    """One file, read by ranges; see `Blob`."""

    far = True
    # Two seconds of a 60 Mbit/s line: enough to hide a round trip, little to read again when a connection breaks.
    piece = 16 * 2**20

    def __init__(
        self, client: HubClient, file: RemoteFile, *, range_cache: RangeCache | None = None, restricted: bool = False
    ) -> None:
        self.name = file.name
        self._client = client
        self._file = file
        self._range_cache = range_cache
        self._restricted = restricted
        self._key = f"{client.endpoint} {file.repo} {file.commit} {file.name}"
        self._lock = threading.Lock()
        self._facts: Facts | None = None
        self._head = b""

    @property
    def size(self) -> int:
        """The file's bytes, from the first answer."""
        return self._known().size

    @property
    def tag(self) -> str:
        """The Hub's tag of the content, of large files their sha256; empty if it is not known."""
        return self._known().tag.strip('"')

    @property
    def head(self) -> int:
        """The bytes that came with the first answer."""
        self._known()
        return len(self._head) or FIRST_READ

    def read(self, start: int, stop: int, *, into: memoryview | None = None) -> memoryview:
        """Bytes `[start, stop)`, several ranges at once where they are many; see `Blob.read`."""
        target = memoryview(bytearray(stop - start)) if into is None else into
        facts = self._known()
        if stop > facts.size:
            raise UnreadableFile(f"{self.name}: expected bytes {start:,} to {stop:,}, it ends at {facts.size:,}")
        if stop <= len(self._head):
            target[:] = self._head[start:stop]
            return target
        missing = self._range_cache.fill(self._key, start, target) if self._range_cache else [(start, stop)]
        pieces = [(at, min(at + self.piece, end)) for first, end in missing for at in range(first, end, self.piece)]
        self._fetch_all(pieces, start, target, facts)
        return target

    def _fetch_all(self, pieces: Sequence[tuple[int, int]], start: int, target: memoryview, facts: Facts) -> None:
        """Every piece into its part of the target; the first failure is raised after all have ended."""

        def one(first: int, stop: int) -> None:
            part = target[first - start : stop - start]
            try:
                fetch(self._client, self._file, first, part, facts)
            except SourceError as error:
                # Opening adds the name of the model to an error; later reads do not, so it is added here.
                raise type(error)(f"{self._file.repo}: {error}") from error
            if self._range_cache:
                self._range_cache.keep(self._key, first, part, size=facts.size)

        if len(pieces) == 1:
            one(*pieces[0])
            return
        running: list[Future[None]] = [self._client.pool.submit(one, *piece) for piece in pieces]
        problems = [problem for task in running if (problem := task.exception())]
        if problems:
            raise problems[0]

    def _known(self) -> Facts:
        """The file's size and tag; the first bytes come with them, since they are the header that is wanted next."""
        with self._lock:
            if self._facts is None:
                # Cached bytes of a gated file are for who may read it: each process asks the Hub once, by reading.
                self._facts = None if self._restricted else self._from_cache()
                self._facts = self._facts or self._first()
            return self._facts

    def _from_cache(self) -> Facts | None:
        """The facts and the head from the range cache, if it holds them."""
        size = self._range_cache.size(self._key) if self._range_cache else None
        if size is None:
            return None
        weights = self.name.endswith(SUFFIX)
        prefix = self._cached_start(min(PREFIX, size)) if weights else None
        end = PREFIX + int.from_bytes(prefix, "little") if prefix else min(size, FIRST_READ)
        head = self._cached_start(end) if end <= min(size, PREFIX + LONGEST) else None
        if head is None:
            return None
        self._head = head
        return Facts(size, self._cached_tag())

    def _cached_tag(self) -> str:
        key = f"{self._key} tag"
        size = self._range_cache.size(key) if self._range_cache else None
        target = bytearray(size or 0)
        missing = self._range_cache is None or not size or self._range_cache.fill(key, 0, memoryview(target))
        return "" if missing else target.decode("utf-8", "replace")

    def _cached_start(self, stop: int) -> bytes | None:
        """The first bytes, if all of them are cached."""
        target = bytearray(stop)
        return (
            None
            if self._range_cache is None or self._range_cache.fill(self._key, 0, memoryview(target))
            else bytes(target)
        )

    def _first(self) -> Facts:
        """One read that holds the whole header of most files, sized by the headers met before under this name."""
        head = memoryview(bytearray(self._client.header_sizes.get(self.name, FIRST_READ)))
        got, facts = fetch(self._client, self._file, 0, head)
        self._head = bytes(head[:got])
        if self.name.endswith(SUFFIX) and got >= PREFIX:
            end = PREFIX + int.from_bytes(head[:PREFIX], "little")
            self._client.header_sizes[self.name] = min(-(-end // _ROUND) * _ROUND, _LONGEST_GUESS)
            # The bytes after the header are weights that were not requested.
            self._head = self._head[:end]
        if self._range_cache and got:
            self._range_cache.keep(self._key, 0, head[:got], size=facts.size)
            if tag := facts.tag.encode():
                self._range_cache.keep(f"{self._key} tag", 0, memoryview(tag), size=len(tag))
        return facts
