"""Evidence from the store: computed once for the same models, groups and settings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from uws_core import run
from uws_core.analysis.evidence import evidence
from uws_core.errors import StoreError, UwsError
from uws_core.nouns.claims import CLAIMS
from uws_core.nouns.evidence import Evidence
from uws_core.nouns.gram import Gram
from uws_core.nouns.models import Collection
from uws_core.store.codec import from_bytes, gram_key, to_bytes
from uws_core.store.results import Store, default_store

Report = Callable[[float, str], None]

# With fewer than 19 draws no test reaches 5 %; with more than 499 the numbers hardly move.
DRAWS = (19, 39, 59, 99, 199, 499)
USUAL_DRAWS = 99
# One draw: a few small decompositions, and three decompositions of all models, which grow as n^3.
_SECONDS_PER_DRAW, _SECONDS_PER_CUBE = 6e-3, 1.3e-8


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """The settings of the evidence: models, one group label for each model of the collection, and the numbers.

    `members` are indices. `groups` None takes the groups of the lineage; `kept` None is a quarter of the directions.
    `whole` is the number of weights of a whole checkpoint, see `whole_checkpoint`; None omits the second storage ratio.
    """

    members: tuple[int, ...]
    groups: tuple[Hashable, ...] | None = None
    grouped_by: str = ""
    kept: int | None = None
    share: float = 0.9
    draws: int = USUAL_DRAWS
    seed: int = 0
    whole: int | None = None


def cached_evidence(
    collection: Collection,
    layers: Sequence[str],
    settings: EvidenceSettings,
    *,
    store: Store | None = None,
    grams: Sequence[Gram] | None = None,
    report: Report | None = None,
) -> Evidence:
    """Every claim for one layer, or for several summed to one: from the store, or computed and stored.

    `grams` are the layers' Grams where the caller has them; otherwise the store or a pass provides them.

    Raises:
        NotEnoughModels: fewer than two usable models.
        UwsError: whatever a pass raises.
    """
    store = store if store is not None else default_store()
    stored = stored_evidence(collection, layers, settings, store=store)
    if stored is not None:
        return stored
    all_grams = list(grams) if grams is not None else list(run.scan(collection, layers, store=store))
    result = evidence(
        run.whole_network(all_grams),
        groups=settings.groups,
        grouped_by=settings.grouped_by,
        members=settings.members,
        kept=settings.kept,
        share=settings.share,
        draws=settings.draws,
        seed=settings.seed,
        whole=settings.whole,
        stored=_stored_numbers(collection, layers, settings.members),
        layers=all_grams,
        report=report,
    )
    with suppress(StoreError):
        # On a full disk the result is only not stored.
        store.put(_key(collection, layers, settings), to_bytes(result))
    return result


def stored_evidence(
    collection: Collection, layers: Sequence[str], settings: EvidenceSettings, *, store: Store | None = None
) -> Evidence | None:
    """The evidence from the store, or None; reads no weights and draws nothing."""
    store = store if store is not None else default_store()
    content = store.get(_key(collection, layers, settings))
    if content is not None:
        with suppress(StoreError):
            return from_bytes(Evidence, content)
    return None


def whole_checkpoint(collection: Collection, members: Sequence[int]) -> int | None:
    """Mean number of weights of these models' whole checkpoints; reads headers only.

    None where it is unknown: only updates are stored, or a header cannot be read.
    """
    from uws_core.passes.rebuild import other_numbers

    if not members:
        return None
    try:
        other = other_numbers(collection, members)
    except UwsError:
        return None
    return sum(layer.entries for layer in collection.layers) + round(other / len(members))


def seconds(models: int, layers: int, draws: int) -> float:
    """Estimated seconds to compute the evidence of so many layers."""
    return layers * draws * (_SECONDS_PER_DRAW + _SECONDS_PER_CUBE * models**3)


def affordable(models: int, layers: int, draws: int, *, within: float) -> int:
    """The largest of `DRAWS`, at most `draws`, for which so many layers take about `within` seconds.

    It depends on sizes only: the same settings give the same evidence on every machine.
    """
    fitting = [count for count in DRAWS if count <= draws and seconds(models, layers, count) <= within]
    return max(fitting, default=min(DRAWS[0], draws))


def _stored_numbers(collection: Collection, layers: Sequence[str], members: Sequence[int]) -> int | None:
    """Numbers that the models store for these layers where some are factors; None where all are whole matrices."""
    from uws_core.passes.stored_sizes import stored_sizes

    try:
        sizes = stored_sizes(collection, layers, members)
    except UwsError:
        return None
    if not sizes.ranks:
        return None
    return sum(sizes.numbers(collection.by_name[name], len(members)) for name in layers)


def _key(collection: Collection, layers: Sequence[str], settings: EvidenceSettings) -> str:
    """One key for the same contents, settings and definitions of the claims."""
    contents = [gram_key(collection, collection.by_name[name]) for name in layers]
    text = repr((contents, settings, tuple(CLAIMS.values())))
    return f"evidence/{contents[0].split('/')[1]}/{sha256(text.encode()).hexdigest()}"
