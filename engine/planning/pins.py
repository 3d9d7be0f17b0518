"""Names that can move, such as the main branch of a data set of the hub, written into a plan with their commit."""

from collections.abc import Mapping
from typing import Any


def with_commits(source: Any, commits: Mapping[str, str]) -> Any:
    """Return the value of `data.source` or `data.held_out` with the commits of its hub data sets.

    Args:
        source: One name, or a list of names and of `{path, weight}`; anything else, such as a share, stays as it is.
        commits: `DataProfile.commits`: `{reference as written: the same with its commit}`.
    """
    if isinstance(source, str):
        return commits.get(source, source)
    if isinstance(source, list):
        return [with_commits(item, commits) for item in source]
    if isinstance(source, Mapping) and "path" in source:
        return {**source, "path": with_commits(source["path"], commits)}
    return source
