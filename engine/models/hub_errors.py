"""Why the model hub did not give what was asked for, in plain words with the next action; never with a token."""

import errno
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked of the hub, in the words of messages.

    Attributes:
        repo_type: The hub's word for it.
        title: Ours.
        code: What codes of problems begin with.
        path: Recipe field that names it.
        revision: Where the recipe says which revision is meant.
        instead: What can be named on this machine instead.
        builtin: What comes along with the program.
    """

    repo_type: Literal["model", "dataset"]
    title: str
    code: str
    path: str
    revision: str
    instead: str
    builtin: str


MODEL = Subject("model", "model", "model.", "model.base", "model.revision", "a local folder", "builtin:starter")
DATASET = Subject(
    "dataset", "data set", "data.hub_", "data.source", "what follows the @", "local files", "builtin:commands"
)


def hub_problem(code: str, message: str, fix: str, subject: Subject = MODEL) -> ProblemError:
    """Return an error about the base model, or about a data set of the hub."""
    return ProblemError(Problem(f"{subject.code}{code}", clean_line(message), clean_line(fix), path=subject.path))


def explained(base: str, revision: str | None, error: Exception, subject: Subject = MODEL) -> ProblemError:
    """Return what an error of the hub client means for a person.

    Args:
        base: Hub id as it was typed.
        revision: Revision as it was typed.
        error: What the client, the connection or the disk raised.
        subject: What was asked for.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, OfflineModeIsEnabled):
        fix = f"Unset HF_HUB_OFFLINE, name {subject.instead}, or take {subject.builtin}."
        return hub_problem("offline", f"{base} is not on this machine and the model hub is switched off.", fix, subject)
    if isinstance(error, HfHubHTTPError):
        return _refused(base, revision, error, subject)
    if isinstance(error, HFValidationError):
        return hub_problem(
            "bad_id",
            f"{base} cannot be the id of a hub {subject.title}: {reason_of(error)}.",
            "Write owner/name.",
            subject,
        )
    if isinstance(error, OSError) and not isinstance(error, HTTPError):
        return _disk(base, error, subject)
    if isinstance(error, ValueError | TypeError | KeyError | AttributeError):
        # A login page of a hotel or a proxy answers everything with 200 and HTML.
        fix = f"Check the connection, a proxy, and HF_ENDPOINT; or name {subject.instead}."
        return hub_problem("download_failed", f"What answered for {base} is not a model hub.", fix, subject)
    again = "Check the connection and start again; the download continues where it stopped."
    message = f"{base} could not be downloaded: {reason_of(error)}."
    return hub_problem("download_failed", message, f"{again} Or name {subject.instead}.", subject)


def reason_of(error: Exception) -> str:
    """Return the first line of an error without signed addresses and without anything like a token."""
    text = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return clean_line(_TOKEN.sub("hf_...", _QUERY.sub("", text)), max_chars=200).rstrip(".:")


def _refused(base: str, revision: str | None, error: HfHubHTTPError, subject: Subject) -> ProblemError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return _gated(base, subject)
    if isinstance(error, RevisionNotFoundError):
        return hub_problem(
            "no_revision", f"{base} has no revision {revision!r}.", f"Check {subject.revision}.", subject
        )
    if status == 401 and "Invalid credentials" in (error.response.headers.get("X-Error-Message") or ""):
        fix = f"Make a new one at {_site()}/settings/tokens, then {_LOG_IN}."
        message = "The model hub does not accept the access token of this machine."
        return hub_problem("token_refused", message, fix, subject)
    if isinstance(error, RepositoryNotFoundError):
        return _not_found(base, subject)
    if status in (401, 403):
        fix = f"Ask its owner for access, or {_LOG_IN} with a token that may read it."
        return hub_problem("no_permission", f"The model hub does not let this account read {base}.", fix, subject)
    if status == 404:
        fix = "Choose another revision, or start again."
        return hub_problem("incomplete", f"A file of {base} is gone from the hub.", fix, subject)
    fix = f"Try again in a while; the download continues where it stopped. Or name {subject.instead}."
    return hub_problem("download_failed", f"The model hub did not deliver {base}: {reason_of(error)}.", fix, subject)


def _gated(base: str, subject: Subject) -> ProblemError:
    page = f"{_site()}/{'' if subject is MODEL else 'datasets/'}{base}"
    message = f"{base} asks for consent to its licence before it can be downloaded."
    if get_token() is None:
        return hub_problem("gated", message, f"Accept it at {page}, then {_LOG_IN}.", subject)
    fix = f"Accept it at {page} with the account of this machine's token; consent may take a while to be granted."
    return hub_problem("gated", message, fix, subject)


def _not_found(base: str, subject: Subject) -> ProblemError:
    if subject is not MODEL:
        fix = f"Check the spelling; for a private one {_LOG_IN}."
        return hub_problem("not_found", f"There is no data set called {base} on the hub.", fix, subject)
    from engine.catalog.base_models import BASE_MODELS

    names = {card.name.lower(): card.name for card in BASE_MODELS}
    close = [names[name] for name in get_close_matches(base.lower(), names, n=2, cutoff=0.75)]
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    fix = f"{meant}Check the spelling; for a private model {_LOG_IN}. For a folder write its whole path."
    return hub_problem("not_found", f"There is no folder and no hub model called {base}.", fix)


def _site() -> str:
    return str(constants.ENDPOINT)


def _disk(base: str, error: OSError, subject: Subject) -> ProblemError:
    where = f" at {clean_line(error.filename, max_chars=120)}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"The disk is full while downloading {base}."
        return hub_problem("disk_full", message, "Free space, or set HF_HOME.", subject)
    why = clean_line(error.strerror or error, max_chars=120)
    fix = "Make the folder writable, or set HF_HOME to one that is."
    return hub_problem(
        "cache_unusable", f"{base} cannot be kept in the {subject.title} cache{where}: {why}.", fix, subject
    )
