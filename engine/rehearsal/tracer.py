"""Writes down every storage that comes and goes, with the phase it happens in and what it is for."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch

from engine.rehearsal.trace import Trace

TEMPORARY = "temporary"


class Tracer:
    """Fills a `Trace` from the tensors that it is shown.

    A storage is alive until PyTorch drops it: a weak reference to the storage, not to a tensor, tells when.

    Attributes:
        trace: What was written down so far.
        component: What new storages are for, until they are renamed.
    """

    def __init__(self) -> None:
        self.trace = Trace()
        self.component = TEMPORARY
        self._numbers: dict[int, int] = {}
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._next = 0
        self._off = False

    def note(self, tensor: torch.Tensor) -> None:
        """Write down the storage of a tensor, the first time it is seen."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        num_bytes = storage.nbytes()
        if address in self._numbers or num_bytes == 0:
            return
        number = self._take(0 if self._off else num_bytes, self.component)
        self._numbers[address] = number
        self._references[number] = weakref.ref(storage, self._released(address, number))

    def _released(self, address: int, number: int) -> Callable[[object], None]:
        def release(_: object) -> None:
            del self._numbers[address]
            del self._references[number]
            self._give(number)

        return release

    @contextmanager
    def held(self, num_bytes: int) -> Iterator[None]:
        """Write down memory that a kernel takes for itself while it runs."""
        number = self._take(num_bytes, self.component)
        try:
            yield
        finally:
            self._give(number)

    def standing(self, num_bytes: int, component: str) -> None:
        """Write down memory that is taken and never given back."""
        self._take(num_bytes, component)

    def _take(self, num_bytes: int, component: str) -> int:
        number = self._next
        self._next += 1
        if num_bytes:
            self.trace.names[number] = component
            self.trace.events.append((number, num_bytes))
        return number

    def _give(self, number: int) -> None:
        if number in self.trace.names:
            self.trace.events.append((number, 0))

    def name(self, tensors: Iterable[torch.Tensor], component: str) -> None:
        """Say what storages are for; those that nobody has seen are written down now."""
        for tensor in tensors:
            self.note(tensor)
            number = self._numbers.get(tensor.untyped_storage()._cdata)
            if number in self.trace.names:
                self.trace.names[number] = component

    def phase(self, name: str) -> None:
        """Begin a phase."""
        self.trace.marks.append((len(self.trace.events), name))

    @contextmanager
    def part(self, component: str) -> Iterator[None]:
        """Let new storages belong to a component."""
        before, self.component = self.component, component
        try:
            yield
        finally:
            self.component = before

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Do not write down what is allocated here."""
        before, self._off = self._off, True
        try:
            yield
        finally:
            self._off = before
