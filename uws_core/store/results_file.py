"""Results files: a collection with its Grams and what else was computed of it, in one archive without weights.

A `*.uws.zip` holds `manifest.json` (models by name and digest, layers, attributes, versions, a digest of every entry)
and the entries of the store that belong to the collection. Numbers and names only: it is read without pickle. A file
from elsewhere answers for the collection it holds and for no other.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from uws_core.errors import ExportError, UnreadableFile
from uws_core.nouns.models import WITHOUT_WEIGHTS, Collection, LayerKey, LeftOut, ModelRef, Value
from uws_core.store.codec import MATH_VERSION

RESULTS_SUFFIX: Final = ".uws.zip"
FORMAT: Final = 1
_KIND: Final = "uws results"
_MANIFEST: Final = "manifest.json"
# Names, digests and attributes of ten thousand models; no entry of a file from elsewhere may unpack to more.
_LONGEST_MANIFEST, _LONGEST_ENTRY = 64 * 2**20, 2**31
_NO_WEIGHTS: Final = LeftOut("weights", "this is a results file; what reads weights needs the models themselves")
_DAMAGE: Final = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class ResultsFile:
    """What a results file says of itself: its collection, whose models have no weights, and its entries.

    `entries` maps the end of a store's key (after the collection's fingerprint) to the digest of the bytes.
    `provenance` has the versions, the time, and the fingerprint that the models' contents have.
    """

    path: Path
    collection: Collection
    entries: Mapping[str, str]
    provenance: Mapping[str, object] = field(default_factory=dict)


def key_prefix(fingerprint: str) -> str:
    """The beginning of the store's keys of all results of a collection."""
    return f"gram/{MATH_VERSION}/{fingerprint}/"


def write_results_file(
    path: Path,
    collection: Collection,
    entries: Iterable[tuple[str, bytes]],
    *,
    packages: Mapping[str, str],
    extra: Mapping[str, bytes] | None = None,
) -> int:
    """Writes the file, which appears when it is complete, and returns its bytes.

    `entries` are ends of keys with their bytes; `extra` are further members, such as tables for other programs.

    Raises:
        ExportError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        digests: dict[str, str] = {}
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            for end, raw in entries:
                digests[end] = sha256(raw).hexdigest()
                archive.writestr(_member(_name(end)), raw)
            for name, raw in (extra or {}).items():
                archive.writestr(_member(name), raw)
            manifest = {
                "kind": _KIND,
                "format": FORMAT,
                "math_version": MATH_VERSION,
                "packages": dict(packages),
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "name": collection.name,
                "fingerprint": collection.fingerprint,
                "labels": list(collection.labels),
                "models": [_written(ref) for ref in collection.refs],
                "layers": [[layer.name, *layer.shape] for layer in collection.layers],
                "table": {name: list(column) for name, column in collection.table.items()},
                "base": None if collection.base is None else _written(collection.base),
                "base_layers": sorted(collection.base_layers),
                "transposed": sorted(collection.transposed),
                "left_out": [[item.what, item.reason] for item in collection.left_out],
                "entries": dict(digests),
            }
            archive.writestr(_member(_MANIFEST), json.dumps(manifest, ensure_ascii=False).encode())
        unfinished.replace(path)
        return path.stat().st_size
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ExportError(f"{path} cannot be written ({error}); name a file in a folder that exists") from error


def read_results_file(path: Path) -> ResultsFile:
    """The content of a results file; no entry is unpacked.

    Raises:
        UnreadableFile: damaged, something else, or of another version; the message says what to do.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            raw = _read(archive, _MANIFEST, _LONGEST_MANIFEST)
            names = set(archive.namelist())
    except (*_DAMAGE, KeyError) as error:
        raise UnreadableFile(
            f"{path.name} is no results file, or it is damaged ({error}); write it again with `uws export --results`, "
            "or fetch it again"
        ) from error
    try:
        content = json.loads(raw)
        _check_versions(path, content)
        entries = {str(end): str(digest) for end, digest in content["entries"].items()}
        made = _collection(content, f"{path.name}:{sha256(raw).hexdigest()}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFile(f"{path.name} is no whole results file ({error!r}); fetch or write it again") from error
    missing = [end for end in entries if _name(end) not in names]
    if missing:
        raise UnreadableFile(f"{path.name} lacks {len(missing)} of its {len(entries)} results; fetch or write it again")
    provenance = {key: content[key] for key in ("fingerprint", "math_version", "packages", "time") if key in content}
    return ResultsFile(path, made, entries, provenance)


def read_entry(results: ResultsFile, end: str) -> bytes | None:
    """The bytes of an entry; None where there is none, or the file was damaged or exchanged since it was opened."""
    if end not in results.entries:
        return None
    try:
        with zipfile.ZipFile(results.path) as archive:
            raw = _read(archive, _name(end), _LONGEST_ENTRY)
    except (*_DAMAGE, KeyError):
        return None
    return raw if sha256(raw).hexdigest() == results.entries[end] else None


# --- writing


def _written(ref: ModelRef) -> dict[str, str]:
    """A model by name and digest; of one on a disk the name without its folders, which are nobody else's."""
    repo = ref.repo.removeprefix(WITHOUT_WEIGHTS)
    return {
        "name": Path(repo).name if Path(repo).is_absolute() else repo,
        "commit": ref.commit,
        "part": ref.part,
    }


def _member(name: str) -> zipfile.ZipInfo:
    """A member whose bytes do not depend on the time."""
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _name(end: str) -> str:
    return f"results/{sha256(end.encode()).hexdigest()[:32]}.safetensors"


# --- reading


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if archive.getinfo(name).file_size > most:
        raise zipfile.BadZipFile(f"{name} unpacks to more than {most:,} bytes")
    return archive.read(name)


def _check_versions(path: Path, content: Mapping[str, Any]) -> None:
    if content.get("kind") != _KIND:
        raise UnreadableFile(f"{path.name} is an archive, but no results file; `uws export --results` writes one")
    if content.get("format") != FORMAT:
        raise UnreadableFile(
            f"{path.name} has format {str(content.get('format'))[:20]}, this version reads {FORMAT}; install a newer "
            "version of uws, or ask for the file in this format"
        )
    if content.get("math_version") != MATH_VERSION:
        packages = content.get("packages")
        uws = packages.get("uws", "another version") if isinstance(packages, dict) else "another version"
        raise UnreadableFile(
            f"{path.name} holds numbers by definitions {str(content.get('math_version'))[:20]}, this version computes "
            f"by {MATH_VERSION}; open it with uws {str(uws)[:20]}, or export it again from the weights"
        )


def _collection(content: Mapping[str, Any], identity: str) -> Collection:
    """The collection; its fingerprint is the file's own, so that no other collection's results are taken from it."""
    base = content["base"]
    return Collection(
        name=_text(content["name"]),
        refs=tuple(_ref(each) for each in content["models"]),
        labels=_texts(content["labels"]),
        layers=tuple(LayerKey(_text(name), (_count(m), _count(p))) for name, m, p in content["layers"]),
        fingerprint=sha256(identity.encode()).hexdigest()[:32],
        table={_text(name): tuple(map(_cell, column)) for name, column in content["table"].items()},
        base=None if base is None else _ref(base),
        base_layers=frozenset(_texts(content["base_layers"])),
        left_out=(_NO_WEIGHTS, *(LeftOut(_text(what), _text(reason)) for what, reason in content["left_out"])),
        transposed=frozenset(_texts(content["transposed"])),
    )


def _ref(each: Mapping[str, Any]) -> ModelRef:
    return ModelRef(f"{WITHOUT_WEIGHTS}{_text(each['name'])}", _text(each["commit"]), _text(each["part"]))


def _texts(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(map(_text, values))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, found {str(value)[:40]!r}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected a count, found {str(value)[:40]!r}")
    return value


def _cell(value: object) -> Value:
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"expected a text or a number, found {str(value)[:40]!r}")
    return value
