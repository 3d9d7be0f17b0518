"""Background work that ends in an error says so on its screen; Textual alone would let it die without a word."""

from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from engine.text import clean_line

MAX_CHARS = 300
_SHOWN_S = 15


class SpokenErrors(MessagePump):
    """For screens whose workers run with `exit_on_error=False`: an unexpected end becomes a notification.

    `Worker.StateChanged` does not bubble: it reaches the node that started the worker and no other, so each screen
    takes this class as a base of its own. The same sentence is said once: a poll that fails every two seconds must not
    fill the screen.
    """

    _said: str = ""

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Say which work ended in an error, and let the screen put right what waits for it."""
        if event.state is not WorkerState.ERROR or event.worker.error is None:
            return
        self.work_failed(event.worker.group)
        text = sentence_of(event.worker.error)
        if text == self._said or not isinstance(self, Screen):
            return
        self._said = text
        title = f"Unexpected error ({clean_line(event.worker.group)})"
        self.notify(text, title=title, severity="error", markup=False, timeout=_SHOWN_S)

    def work_failed(self, group: str) -> None:
        """Put right what waits for work that ended in an error.

        Args:
            group: Group of the worker.
        """


def sentence_of(error: BaseException) -> str:
    """Return an unexpected error on one line: its kind, and what it says."""
    name = type(error).__name__
    return clean_line(f"{name}: {error}" if str(error) else name, max_chars=MAX_CHARS)
