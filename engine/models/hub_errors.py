"""Why the model hub did not give what was asked for, in plain words with the next action; never with a token."""

import errno
import re
from difflib import get_close_matches

from huggingface_hub import constants, get_token

# The HTTP library under the hub client has changed its name once, so its error is taken from there.
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

UNREACHABLE = frozenset({"model.offline", "model.download_failed"})
"""Codes that say nothing about the model: the hub did not answer."""
_LOG_IN = "run: hf auth login"
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{6,}")
_QUERY = re.compile(r"\?\S+")


def hub_problem(code: str, message: str, fix: str) -> ProblemError:
    """Return an error about the base model."""
    return ProblemError(Problem(f"model.{code}", clean_line(message), clean_line(fix), path="model.base"))


def explained(base: str, revision: str | None, error: Exception) -> ProblemError:
    """Return what an error of the hub client means for a person.

    Args:
        base: Hub id as it was typed.
        revision: Revision as it was typed.
        error: What the client, the connection or the disk raised.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, OfflineModeIsEnabled):
        fix = "Unset HF_HUB_OFFLINE, name a local folder, or take builtin:starter."
        return hub_problem("offline", f"{base} is not on this machine and the model hub is switched off.", fix)
    if isinstance(error, HfHubHTTPError):
        return _refused(base, revision, error)
    if isinstance(error, HFValidationError):
        return hub_problem(
            "bad_id", f"{base} cannot be the id of a hub model: {reason_of(error)}.", "Write owner/name."
        )
    if isinstance(error, OSError) and not isinstance(error, HTTPError):
        return _disk(base, error)
    if isinstance(error, ValueError | TypeError | KeyError | AttributeError):
        # A login page of a hotel or a proxy answers everything with 200 and HTML.
        fix = "Check the connection, a proxy, and HF_ENDPOINT; or name a local folder."
        return hub_problem("download_failed", f"What answered for {base} is not a model hub.", fix)
    fix = "Check the connection and start again; the download continues where it stopped. Or name a local folder."
    return hub_problem("download_failed", f"{base} could not be downloaded: {reason_of(error)}.", fix)


def reason_of(error: Exception) -> str:
    """Return the first line of an error without signed addresses and without anything like a token."""
    text = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return clean_line(_TOKEN.sub("hf_...", _QUERY.sub("", text)), max_chars=200).rstrip(".:")


def _refused(base: str, revision: str | None, error: HfHubHTTPError) -> ProblemError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return _gated(base)
    if isinstance(error, RevisionNotFoundError):
        return hub_problem("no_revision", f"{base} has no revision {revision!r}.", "Check model.revision.")
    if status == 401 and "Invalid credentials" in (error.response.headers.get("X-Error-Message") or ""):
        fix = f"Make a new one at {_site()}/settings/tokens, then {_LOG_IN}."
        return hub_problem("token_refused", "The model hub does not accept the access token of this machine.", fix)
    if isinstance(error, RepositoryNotFoundError):
        return _not_found(base)
    if status in (401, 403):
        fix = f"Ask its owner for access, or {_LOG_IN} with a token that may read it."
        return hub_problem("no_permission", f"The model hub does not let this account read {base}.", fix)
    if status == 404:
        return hub_problem(
            "incomplete", f"A file of {base} is gone from the hub.", "Choose another revision, or start again."
        )
    fix = "Try again in a while; the download continues where it stopped. Or name a local folder."
    return hub_problem("download_failed", f"The model hub did not deliver {base}: {reason_of(error)}.", fix)


def _gated(base: str) -> ProblemError:
    page = f"{_site()}/{base}"
    message = f"{base} asks for consent to its licence before it can be downloaded."
    if get_token() is None:
        return hub_problem("gated", message, f"Accept it at {page}, then {_LOG_IN}.")
    fix = f"Accept it at {page} with the account of this machine's token; consent may take a while to be granted."
    return hub_problem("gated", message, fix)


def _not_found(base: str) -> ProblemError:
    from engine.catalog.base_models import BASE_MODELS

    names = {card.name.lower(): card.name for card in BASE_MODELS}
    close = [names[name] for name in get_close_matches(base.lower(), names, n=2, cutoff=0.75)]
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    fix = f"{meant}Check the spelling; for a private model {_LOG_IN}. For a folder write its whole path."
    return hub_problem("not_found", f"There is no folder and no hub model called {base}.", fix)


def _site() -> str:
    return str(constants.ENDPOINT)


def _disk(base: str, error: OSError) -> ProblemError:
    where = f" at {clean_line(error.filename, max_chars=120)}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return hub_problem("disk_full", f"The disk is full while downloading {base}.", "Free space, or set HF_HOME.")
    why = clean_line(error.strerror or error, max_chars=120)
    fix = "Make the folder writable, or set HF_HOME to one that is."
    return hub_problem("cache_unusable", f"{base} cannot be kept in the model cache{where}: {why}.", fix)
