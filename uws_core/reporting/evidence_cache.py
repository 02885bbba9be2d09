"""Evidence that is kept: judged once for the same models, groups and settings, and found again in the store."""

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
from uws_core.store.codec import evidence_bytes, evidence_from, gram_key
from uws_core.store.results import Store, default_store

Report = Callable[[float, str], None]

# With fewer draws no test reaches 5 %; with more the numbers hardly move.
DRAWS = (19, 39, 59, 99, 199, 499)
USUAL_DRAWS = 99
# One draw: a handful of small decompositions, and the three decompositions of all models that grow with their cube.
_SECONDS_A_DRAW, _SECONDS_A_STEP = 6e-3, 1.3e-8


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """What the claims are judged by: the models, one group label for each model of the collection, and the settings.

    `members` are indices. `groups` None leaves it to the lineage; `kept` None is a quarter of the directions. `whole`
    is how many weights a whole checkpoint has, see `whole_checkpoint`; None leaves the second storage ratio away.
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
    """Every claim for one layer, or for several summed to one, from the store or judged now and stored.

    `grams` are the layers' Grams where they are at hand; else they come from the store or a pass.

    Raises:
        NotEnoughModels: fewer than two usable models.
        UwsError: whatever a pass raises.
    """
    place = store if store is not None else default_store()
    found = stored_evidence(collection, layers, settings, store=place)
    if found is not None:
        return found
    every = list(grams) if grams is not None else list(run.scan(collection, layers, store=place))
    found = evidence(
        run.whole_network(every),
        groups=settings.groups,
        grouped_by=settings.grouped_by,
        members=settings.members,
        kept=settings.kept,
        share=settings.share,
        draws=settings.draws,
        seed=settings.seed,
        whole=settings.whole,
        stored=_stored(collection, layers, settings.members),
        layers=every,
        report=report,
    )
    with suppress(StoreError):
        # A full disk costs only what is kept.
        place.put(_key(collection, layers, settings), evidence_bytes(found))
    return found


def stored_evidence(
    collection: Collection, layers: Sequence[str], settings: EvidenceSettings, *, store: Store | None = None
) -> Evidence | None:
    """The evidence if it has been judged before; reads no weights and draws nothing."""
    place = store if store is not None else default_store()
    raw = place.get(_key(collection, layers, settings))
    if raw is not None:
        with suppress(StoreError):
            return evidence_from(raw)
    return None


def _stored(collection: Collection, layers: Sequence[str], members: Sequence[int]) -> int | None:
    """How many numbers the models store for these layers where some are factors; None where all are whole."""
    from uws_core.passes.stored_sizes import stored_numbers

    try:
        thin = stored_numbers(collection, layers, members)
    except UwsError:
        return None
    whole = (len(members) * collection.by_name[name].entries for name in layers if name not in thin)
    return sum(thin.values()) + sum(whole) if thin else None


def whole_checkpoint(collection: Collection, members: Sequence[int]) -> int | None:
    """How many weights a whole checkpoint of these models has (their mean); None where nobody knows: only updates are
    stored, or a header cannot be read. Reads headers only.
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
    """About how long it takes to judge so many layers."""
    return layers * draws * (_SECONDS_A_DRAW + _SECONDS_A_STEP * models**3)


def affordable(models: int, layers: int, draws: int, *, within: float) -> int:
    """The most of `DRAWS`, at most `draws`, that so many layers can have in about `within` seconds.

    It depends on sizes only, so that the same question has the same answer on every machine.
    """
    fit = [one for one in DRAWS if one <= draws and seconds(models, layers, one) <= within]
    return max(fit, default=min(DRAWS[0], draws))


def _key(collection: Collection, layers: Sequence[str], settings: EvidenceSettings) -> str:
    """The same for the same contents, models, groups and settings; other words of a claim are another claim."""
    contents = [gram_key(collection, collection.by_name[name]) for name in layers]
    told = repr((contents, settings, tuple(CLAIMS.values())))
    return f"evidence/{contents[0].split('/')[1]}/{sha256(told.encode()).hexdigest()}"
