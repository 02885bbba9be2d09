"""One file of a repository on the Hub, fetched whole into the Hub client's cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from uws_core.errors import HubError
from uws_core.sources.hub import hub

_PLACE: Final = re.compile(r"(datasets/)?([^/@\s]+/[^/@\s]+)/([^@\s]+?)(?:@([^@\s]+))?")


def fetched(text: str) -> Path:
    """The file that `owner/name/path@revision` names (with `datasets/` in front for a data set), on this machine.

    Raises:
        HubError: it is written another way, or the Hub refused, is unreachable, or has no such file.
    """
    found = _PLACE.fullmatch(text.strip())
    if found is None:
        raise HubError(f"{text[:200]!r} is no file here, and on the Hub a file is owner/name/file@revision")
    dataset, repo, file, revision = found.groups()
    here = hub.client()
    try:
        path = here.ask(
            lambda: here.api.hf_hub_download(
                repo, file, revision=revision, repo_type="dataset" if dataset else "model", token=here.token_or_no
            ),
            repo=repo,
            revision=revision or "",
        )
    except HubError as error:
        raise HubError(f"{repo}: {error}") from error
    return Path(path)
