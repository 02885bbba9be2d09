"""Descriptions of models on the Hub, one by name or many by a query; no weights are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from huggingface_hub import get_session, hf_raise_for_status

from uws_core.errors import HubError
from uws_core.nouns.hub import HubListing, HubModel, HubQuery, hub_ref
from uws_core.nouns.models import LeftOut, ModelRef
from uws_core.sources.hub.client import HubClient

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ExpandModelProperty_T, ModelInfo, ModelSort_T

Report = Callable[[float, str], None]

# Everything a table and a reader need, so that a listed model takes no request of its own. What cards say of base,
# license and data the Hub repeats as tags; the cards themselves are free text that the client may stumble over.
_PROPERTIES: Final[list[ExpandModelProperty_T]] = [
    "author", "createdAt", "disabled", "downloads", "gated", "library_name", "likes", "pipeline_tag", "private", "sha",
    "siblings", "tags",
]  # fmt: skip
_SORTS: Final[dict[str, ModelSort_T]] = {
    "downloads": "downloads",
    "likes": "likes",
    "created": "created_at",
    "updated": "last_modified",
}
# The list of all models has millions: a filter judged here must not walk through them all.
LONGEST_WALK: Final = 20_000
_BASE = re.compile(r"base_model:(?:(adapter|finetune|quantized|merge):)?([^:]+)")


def look_up(client: HubClient, ref: ModelRef) -> HubModel:
    """The repository that `ref` names at its revision, or at the head of its main branch. Price: one request.

    Raises:
        HubError: gated off, private, missing, without that revision, unreachable; the message says which.
    """
    info = client.ask(
        lambda: client.api.model_info(
            ref.repo, revision=ref.commit or None, expand=_PROPERTIES, timeout=client.retry.timeout
        ),
        repo=ref.repo,
        revision=ref.commit,
    )
    if not info.sha:
        raise HubError("empty: the Hub knows no commit of it")
    return _model(info, wanted=ref)


def find(client: HubClient, query: HubQuery, *, report: Report | None = None) -> HubListing:
    """The models a query asks for, nothing of them read. Price: a request a page of the Hub's list, one a name.

    Raises:
        HubError: nothing was asked for, or the Hub cannot be reached.
    """
    if not query.names and not query.lists:
        raise HubError("the query asks for nothing; name models, a glob such as owner/*task*, a base or an author")
    listed = _listed(client, query) if query.lists else []
    named, left_out = _named(client, [hub_ref(name) for name in query.names], report)
    models = {model.ref: model for model in [*listed[: query.limit], *named]}
    return HubListing(query, tuple(models.values()), len(listed) > query.limit, left_out)


def _named(
    client: HubClient, refs: list[ModelRef], report: Report | None
) -> tuple[list[HubModel], tuple[LeftOut, ...]]:
    """The models of a pasted list, several looked up at once; who cannot be found does not stop the others."""

    def one(ref: ModelRef) -> HubModel | LeftOut:
        try:
            return look_up(client, ref)
        except HubError as error:
            return LeftOut(str(ref).rstrip("@"), str(error))

    found: list[HubModel | LeftOut] = []
    with ThreadPoolExecutor(client.workers, thread_name_prefix="uws-hub-ask") as pool:
        for model in pool.map(one, refs):
            found.append(model)
            if report:
                report(len(found) / len(refs), f"{len(found)} of {len(refs)} repositories looked up")
    return (
        [one for one in found if isinstance(one, HubModel)],
        tuple(one for one in found if isinstance(one, LeftOut)),
    )


def _listed(client: HubClient, query: HubQuery) -> list[HubModel]:
    """The models of the Hub's list that a query asks for, one more than its limit when there are more."""
    _reach(client)
    found: dict[str, HubModel] = {}
    for glob in query.globs or ("",):
        # The client tries again by itself, so that this does not.
        for model in client.ask(partial(_walked, client, query, glob), once=True):
            found.setdefault(model.repo, model)
    return list(found.values())[: query.limit + 1]


def _walked(client: HubClient, query: HubQuery, glob: str) -> list[HubModel]:
    return list(islice(_walk(client, query, glob), query.limit + 1))


def _walk(client: HubClient, query: HubQuery, glob: str) -> Iterator[HubModel]:
    """The list as far as the Hub can filter it, then filtered here; at most 20,000 models are looked through."""
    # The author of a glob if it is plain, and the longest plain piece of its name, for the Hub to search by.
    owner, slash, name = glob.rpartition("/")
    pieces = re.split(r"\[.*?\]|[*?\[\]]", name if slash else glob)
    author, search = ("" if re.search(r"[*?\[]", owner) else owner), max(pieces, key=len)
    bases = ((query.adapters, "adapter"), (query.finetunes, "finetune"))
    infos = client.api.list_models(
        filter=[*query.tag, *(f"base_model:{relation}:{base}" for base, relation in bases if base)] or None,
        author=query.author or author or None,
        search=search or None,
        pipeline_tag=query.task or None,
        gated={"no": False, "only": True}.get(query.gated),
        sort=_SORTS[query.sort],
        expand=_PROPERTIES,
    )
    only = replace(query, globs=(glob,) if glob else ())
    for info in islice(infos, LONGEST_WALK):
        model = _model(info)
        if only.passes(model) and not info.disabled:
            yield model


def _reach(client: HubClient) -> None:
    """One small request, so that a machine that is offline learns it in seconds: the client's list tries for long."""

    def ask() -> None:
        url = f"{client.endpoint}/api/models?limit=1&expand=sha"
        hf_raise_for_status(get_session().get(url, headers=client.headers(), timeout=client.retry.timeout))

    client.ask(ask)


def _model(info: ModelInfo, wanted: ModelRef | None = None) -> HubModel:
    """The description that is used of the client's answer."""
    tags = tuple(info.tags or ())
    bases = [found for tag in tags if (found := _BASE.fullmatch(tag))]
    # The tag with the relation says more than the one without.
    base = max(bases, key=lambda found: found[1] is not None, default=None)
    return HubModel(
        repo=info.id,
        commit=info.sha or "",
        part=wanted.part if wanted else "",
        files=tuple(sibling.rfilename for sibling in info.siblings or ()),
        open_to_all=not info.gated and not info.private,
        asked_as=wanted.repo if wanted and wanted.repo != info.id else "",
        author=info.author or info.id.split("/")[0],
        task=info.pipeline_tag or "",
        base=base[2] if base else "",
        relation=(base[1] or "") if base else "",
        license=_tagged(tags, "license:"),
        library=info.library_name or "",
        datasets=_tagged(tags, "dataset:"),
        created=info.created_at.date().isoformat() if info.created_at else "",
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        tags=tags,
    )


def _tagged(tags: tuple[str, ...], prefix: str) -> str:
    return ", ".join(tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix))
