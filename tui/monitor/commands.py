"""The monitor in the command palette: what has no room in the footer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tui.command_list import Command, CommandList

if TYPE_CHECKING:
    from tui.monitor.screen import MonitorScreen


class MonitorCommands(CommandList):
    """Commands of the monitor."""

    @property
    def _monitor(self) -> "MonitorScreen":
        from tui.monitor.screen import MonitorScreen

        assert isinstance(self.screen, MonitorScreen)
        return self.screen

    def commands(self) -> Iterator[Command]:
        """Yield what can be done now."""
        monitor = self._monitor
        yield "Show the next chart", monitor.action_next_chart, "Loss, learning rate, gradient norm, speed, memory"
        yield "Running mean on or off", monitor.action_toggle_smoothing, "The raw curve stays"
        yield "Logarithmic axis on or off", monitor.action_toggle_log, "Powers of ten upwards"
        if monitor.follower.status.alive:
            yield "Kill the worker now", monitor.action_kill, "Without saving; the last checkpoint stays"
