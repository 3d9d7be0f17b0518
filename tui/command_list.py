"""Commands of one screen in the palette: a list of titles, actions and words, searched and offered."""

from collections.abc import Callable, Iterator

from textual.command import DiscoveryHit, Hit, Hits, Provider

Command = tuple[str, Callable[[], object], str]
"""Title, what it does, and what that means."""


class CommandList(Provider):
    """Offers what `commands` yields; a screen's provider says only that."""

    def commands(self) -> Iterator[Command]:
        """Yield the commands that make sense now."""
        raise NotImplementedError

    async def discover(self) -> Hits:
        """Yield every command."""
        for title, command, words in self.commands():
            yield DiscoveryHit(title, command, help=words)

    async def search(self, query: str) -> Hits:
        """Yield the commands that match."""
        matcher = self.matcher(query)
        for title, command, words in self.commands():
            score = matcher.match(title)
            if score > 0:
                yield Hit(score, matcher.highlight(title), command, help=words)
