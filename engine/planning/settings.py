"""The recipe while a plan fills it in: every leaf with its value and the origin of that value."""

from typing import Any

from engine.planning.plan import ValueSource
from engine.recipe.schema import Recipe
from engine.recipe.sources import Layered, Source, flatten, unflatten

_EMPTY: tuple[Any, ...] = (None, {}, [])


class Settings:
    """Values of all recipe leaves; what somebody set stays, holes are derived with a reason."""

    def __init__(self, recipe: Recipe, layered: Layered) -> None:
        """Start from a checked recipe.

        Args:
            recipe: The recipe, defaults filled in.
            layered: Where each value that somebody set comes from.
        """
        self._values = flatten(recipe.model_dump(mode="json"))
        self._sources = {path: source for path, source in layered.sources.items() if path in self._values}
        # What was taken back is derived below, and a preset's value must not return in the command.
        self._typed = {path: self._values[path] for path, source in self._sources.items() if source.kind == "you"}

    def __getitem__(self, path: str) -> Any:
        return self._values[path]

    def is_set(self, path: str) -> bool:
        """Return whether the person or a preset gave this value (not null)."""
        return path in self._sources and self._values[path] not in _EMPTY

    def set_by_person(self, path: str) -> bool:
        """Return whether the person gave this value (not null)."""
        return self.is_set(path) and self._sources[path].kind == "you"

    def derive(self, path: str, value: Any, reason: str) -> Any:
        """Fill a hole and return the value now in force; what somebody set is left as it is.

        Args:
            path: Recipe path.
            value: What the plan takes; None keeps the hole, with the reason beside it.
            reason: Why, as a phrase that follows "derived:".
        """
        if not self.is_set(path):
            self._values[path] = value
            self._sources[path] = Source("derived", reason)
        return self._values[path]

    def pin(self, path: str, value: Any) -> None:
        """Write down what a value stands for today, such as the commit of a branch; its origin stays, and the command.

        Args:
            path: Recipe path.
            value: The same, said so that it means the same tomorrow.
        """
        self._values[path] = value

    def clear_preset(self, path: str, reason: str) -> None:
        """Take back a preset's value that does not apply to what the person chose instead."""
        if self.is_set(path) and self._sources[path].kind == "preset":
            self._values[path] = None
            self._sources[path] = Source("derived", reason)

    def values(self) -> dict[str, Any]:
        """Return `{recipe path: value}` as it stands."""
        return dict(self._values)

    def paths_set(self) -> frozenset[str]:
        """Return the paths that the person or a preset gave a value for."""
        return frozenset(path for path in self.given() if self.is_set(path))

    def recipe(self) -> Recipe:
        """Return the recipe as it stands."""
        return Recipe.model_validate(unflatten(self._values))

    def sources(self) -> dict[str, ValueSource]:
        """Return the origin of every leaf, in the order of the schema."""
        default = Source("default")
        return {path: _value_source(self._sources.get(path, default)) for path in self._values}

    def chosen_by_person(self) -> dict[str, Any]:
        """Return `{path: value}` of what the person set; null or an empty section takes a preset's value back."""
        return dict(self._typed)

    def preset_name(self) -> str:
        """Return the name of the preset under the recipe, empty without one."""
        return next((source.detail for source in self._sources.values() if source.kind == "preset"), "")

    def given(self) -> dict[str, Source]:
        """Return the origin of what the person or a preset set."""
        return {path: source for path, source in self._sources.items() if source.kind in ("you", "preset")}


def _value_source(source: Source) -> ValueSource:
    return ValueSource(kind=source.kind, detail=source.detail)
