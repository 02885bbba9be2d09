"""Lists the models at a place before any is opened: labels, attributes, and what is left out at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from uws_core.errors import CollectionError, OutsideRoot
from uws_core.nouns.hub import HubListing, HubQuery, hub_ref, str_ref
from uws_core.nouns.models import LeftOut, ModelRef
from uws_core.sources.discovery import CARDS, models_in
from uws_core.sources.files.hub_cache import snapshot_name, snapshot_of
from uws_core.sources.model_table import MODEL_TABLE, ModelTable, read_table

Place = str | Path | ModelRef
Roots = tuple[Path, ...] | None


@dataclass(frozen=True)
class Listing:
    """Models to open, by label; a reference without a commit takes the content's as it is now.

    `saved` is the fingerprint of a collection that was saved: its table is used as it is, without the Hub's.
    """

    name: str
    models: Mapping[str, ModelRef]
    table: ModelTable = field(default_factory=ModelTable)
    base: ModelRef | None = None
    left_out: tuple[LeftOut, ...] = ()
    saved: str | None = None
    common_rows: bool = False


def in_folder(folder: Path, roots: Roots = None, *, pickled: bool = False) -> Listing:
    """The models that lie in a folder, with the attributes in its `models.csv` unless that is a link out of `roots`.

    Raises:
        UnreadableFile: the folder cannot be listed.
    """
    found, left_out = models_in(folder, pickled=pickled)
    models = {one.label: ModelRef.of_part(str(one.path), "", file=one.file, pickled=one.pickled) for one in found}
    try:
        inside(folder / MODEL_TABLE, roots)
        table = read_table(folder)
    except OutsideRoot as error:
        table = ModelTable(left_out=(LeftOut(MODEL_TABLE, f"not used: {error}"),))
    if not table.columns and any(one.commit for one in found):
        # A folder of the Hub client's cache tells the commit of each snapshot.
        table = replace(table, columns=("commit",), rows={one.label: (one.commit or None,) for one in found})
    return Listing(folder.name, models, table, left_out=left_out)


def listed(places: Sequence[Place], roots: Roots = None, *, name: str = "models") -> Listing:
    """Models named one by one; each label is the shortest end of its path that no other has.

    Raises:
        OutsideRoot: one lies outside `roots`.
        CollectionError: one is no model.
    """
    refs: dict[ModelRef, None] = {}
    twice = []
    for place in places:
        ref = reference(place, roots)
        if ref in refs:
            twice.append(LeftOut(str(place), "it was named twice; the first is used"))
        refs.setdefault(ref)
    return Listing(name, dict(zip(_unique_labels(list(refs)), refs, strict=True)), left_out=tuple(twice))


def queried(query: HubQuery) -> Listing:
    """The models of the Hub that a query finds now, at their commits.

    Raises:
        HubError: the query asks for nothing, or the Hub cannot be reached.
    """
    from uws_core.sources.hub import hub

    listing = hub.find(query)
    named = listed([model.ref for model in listing.models], name=str(query))
    return Listing(named.name, named.models, left_out=not_listed(listing))


def not_listed(listing: HubListing) -> tuple[LeftOut, ...]:
    """Models that match a query and are not in its list: names that cannot be looked up, and those past the limit."""
    query = listing.query
    cut = LeftOut(str(query), f"more models pass the query than its limit of {query.limit}; raise it to have them")
    return (*listing.left_out, *([cut] if listing.more else []))


def reference(given: Place, roots: Roots = None) -> ModelRef:
    """The model that `given` names: what exists on this machine first, then `owner/name@revision` on the Hub.

    Raises:
        OutsideRoot: a path outside `roots`.
        CollectionError: it names a collection, not a model.
    """
    if isinstance(given, ModelRef):
        path, text = Path(given.repo), str_ref(given)
    else:
        path, text = Path(given), str(given)
    if text.startswith("demo:"):
        raise CollectionError(f"{text} is a collection, not one model; open it by itself")
    # A relative path with a commit cannot be of this machine, whose models are known by absolute paths.
    known = isinstance(given, ModelRef) and bool(given.commit) and not path.is_absolute()
    if not isinstance(given, Path) and (known or not path.expanduser().exists()) and (named := _on_hub(text)):
        return named
    commit, part = (given.commit, given.part) if isinstance(given, ModelRef) else ("", "")
    return ModelRef(str(snapshot_of(inside(path, roots))), commit, part)


def inside(path: Path, roots: Roots) -> Path:
    """The path made absolute, checked against the folders that may be read.

    Raises:
        OutsideRoot: it lies in none of them, also through a link.
    """
    path = path.expanduser().absolute()
    if roots is not None and not any(path.resolve().is_relative_to(root) for root in roots):
        raise OutsideRoot(
            f"{path} lies outside the folders that may be read ({', '.join(map(str, roots))}); "
            "start the app with UWS_ROOTS naming its folder"
        )
    return path


def all_inside(path: Path, roots: tuple[Path, ...]) -> None:
    """Checks that no file of a model, nor a configuration beside it, is a link out of the folders that may be read.

    Raises:
        OutsideRoot: one is.
    """
    # The path itself may stand below a linked folder, so it is checked although it is no link.
    inside(path, roots)
    for file in path.rglob("*") if path.is_dir() else (path.with_name(name) for name in sorted(CARDS)):
        if file.is_symlink():
            inside(file, roots)


def _on_hub(text: str) -> ModelRef | None:
    try:
        return hub_ref(text)
    except ValueError:
        return None


def _unique_labels(refs: Sequence[ModelRef]) -> list[str]:
    """The shortest ends of the paths that are all different, without the suffix; revisions of one model by revision."""
    times = Counter((ref.repo, ref.part) for ref in refs)
    paths = [_path(ref, with_commit=times[ref.repo, ref.part] > 1) for ref in refs]
    pieces = [Path(path.removesuffix(".safetensors")).parts for path in paths]
    for depth in range(1, max(map(len, pieces), default=1) + 1):
        labels = ["/".join(parts[-depth:]) for parts in pieces]
        if len(set(labels)) == len(labels):
            return labels
    return paths


def _path(ref: ModelRef, *, with_commit: bool) -> str:
    revision = ref.commit[:12] if len(ref.commit) == 40 else ref.commit
    name = f"{ref.repo}@{revision}" if with_commit and revision else snapshot_name(Path(ref.repo)) or ref.repo
    return f"{name}/{ref.part}" if ref.part else name
