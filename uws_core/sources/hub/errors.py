"""Messages for the Hub's refusals: what each means and what to do about it.

A message does not begin with the repository: whoever opens a model adds its name once.
"""

from __future__ import annotations

from typing import Final

import httpx2
from huggingface_hub import errors as hub

from uws_core.errors import HubError

TOKEN_VARIABLE: Final = "HF_TOKEN"
# Statuses that pass by themselves.
PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})


def explained(error: Exception, *, repo: str, revision: str = "", endpoint: str, has_token: bool) -> HubError:
    """The error to raise for what the client raised: the first that fits of gated, private, missing, offline, ..."""
    # The client has a class for most refusals; a class before its parent.
    if isinstance(error, hub.OfflineModeIsEnabled):
        message = "the Hub is switched off by HF_HUB_OFFLINE; unset it to read from the Hub"
    elif isinstance(error, hub.HFValidationError):
        message = "this is no repository name; expected owner/name, with letters, digits, '-', '_' and '.'"
    elif isinstance(error, hub.GatedRepoError):
        if has_token:
            message = (
                f"gated: the account of the token in {TOKEN_VARIABLE} was not granted access; ask at {endpoint}/{repo}"
            )
        else:
            message = (
                f"gated: accept its terms at {endpoint}/{repo}, then set {TOKEN_VARIABLE} to a token of that account"
            )
    elif isinstance(error, hub.DisabledRepoError):
        message = "the Hub has disabled this repository"
    elif isinstance(error, hub.RevisionNotFoundError):
        message = f"there is no branch, tag or commit {revision!r}"
    elif isinstance(error, hub.EntryNotFoundError):
        message = "a file that was expected is not in the repository at this commit"
    elif isinstance(error, hub.RepositoryNotFoundError):
        message = _missing(endpoint, has_token)
    elif isinstance(error, httpx2.TimeoutException):
        message = f"{endpoint} did not answer in time, also after several tries; try again later"
    elif isinstance(error, httpx2.TransportError):
        message = f"{endpoint} cannot be reached ({type(error).__name__}); is this machine online?"
    else:
        message = None
    return HubError(message or _status_message(error, endpoint, has_token))


def _status_message(error: Exception, endpoint: str, has_token: bool) -> str:
    """The error for any other answer, which the client has no class for."""
    status = error.response.status_code if isinstance(error, hub.HfHubHTTPError) else 0
    if status == 401 and has_token:
        return f"the Hub does not accept the token in {TOKEN_VARIABLE}; it may have expired"
    if status == 403 and has_token:
        return f"private: the token in {TOKEN_VARIABLE} has no right to read it"
    if status in (401, 403, 404):
        return _missing(endpoint, has_token)
    if status == 429:
        return "the Hub's limit of requests is reached, also after waiting; try again in a few minutes"
    if status in PASSING:
        return f"the Hub failed with status {status}, also after several tries; try again later"
    # Never the error's own text: it may quote an address that was signed for this user.
    return f"the Hub answered in a way that is not understood ({type(error).__name__}, status {status or 'unknown'})"


def _missing(endpoint: str, has_token: bool) -> str:
    if has_token:
        return f"no such repository on {endpoint}, or the account of the token in {TOKEN_VARIABLE} may not see it"
    return f"no such repository on {endpoint}, or it is private; for a private one set {TOKEN_VARIABLE}"
