"""Readiness of many sockets through one reader of the loop.

On Linux all sockets of a loop stand in one epoll set of ours, and the loop watches only that set's descriptor:

- a turn with many ready sockets costs one system call and one loop callback, not one callback each;
- uvloop stops watching a descriptor for good when it reports an error (a TCP reset, an ICMP error), and never calls
  its reader; the set itself never has an error, and here errors call the reader, which then finds them;
- an idle connection costs a list in place of a handle of the loop.

Elsewhere, and on loops that bring their own network, the loop's own add_reader() and add_writer() serve.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

EVENTS_AT_ONCE = 128  # sockets that are served before the loop's other callbacks have their turn


class Descriptor(Protocol):
    """Whatever has a file descriptor."""

    def fileno(self) -> int:
        """The descriptor's number."""


class Poller(Protocol):
    """The part of an event loop that watches descriptors. Callbacks stay until they are removed."""

    @property
    def time(self) -> Callable[[], float]:
        """The loop's clock, to be kept: one bound method serves all connections."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *arguments: Any) -> Any:
        """Call back while there is something to read, an end, or an error."""

    def remove_reader(self, fd: Any) -> Any:
        """Watch for reading no longer."""

    def add_writer(self, fd: Any, callback: Callable[..., Any], *arguments: Any) -> Any:
        """Call back while there is room to write, or an error."""

    def remove_writer(self, fd: Any) -> Any:
        """Watch for writing no longer."""


if sys.platform == "linux":

    class EpollPoller:
        """One epoll set for the sockets of a loop. It is closed while there are none."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop
            self.time = loop.time
            self._set: select.epoll | None = None
            self._readers: dict[int, Callable[[], Any]] = {}
            self._writers: dict[int, Callable[[], Any]] = {}

        def add_reader(self, fd: Descriptor, callback: Callable[..., Any], *arguments: Any) -> None:
            """As an event loop has it."""
            number = fd.fileno()
            self._watch(number, select.EPOLLIN, known=number in self._readers, other=number in self._writers)
            self._readers[number] = partial(callback, *arguments) if arguments else callback

        def add_writer(self, fd: Descriptor, callback: Callable[..., Any], *arguments: Any) -> None:
            """As an event loop has it."""
            number = fd.fileno()
            self._watch(number, select.EPOLLOUT, known=number in self._writers, other=number in self._readers)
            self._writers[number] = partial(callback, *arguments) if arguments else callback

        def _watch(self, number: int, events: int, *, known: bool, other: bool) -> None:
            if known:
                return
            if self._set is None:
                self._set = select.epoll()
                self._loop.add_reader(self._set.fileno(), self._ready)
            if other:
                self._set.modify(number, select.EPOLLIN | select.EPOLLOUT)
            else:
                self._set.register(number, events)

        def remove_reader(self, fd: Descriptor) -> bool:
            """As an event loop has it."""
            return self._forget(fd.fileno(), self._readers, self._writers, select.EPOLLOUT)

        def remove_writer(self, fd: Descriptor) -> bool:
            """As an event loop has it."""
            return self._forget(fd.fileno(), self._writers, self._readers, select.EPOLLIN)

        def _forget(self, number: int, mine: dict[int, Any], other: dict[int, Any], left: int) -> bool:
            if mine.pop(number, None) is None or self._set is None:
                return False
            if number in other:
                self._set.modify(number, left)
                return True
            self._set.unregister(number)
            if not mine and not other:
                self._loop.remove_reader(self._set.fileno())
                self._set.close()
                self._set = None
            return True

        def _ready(self) -> None:
            if self._set is None:
                return
            if len(self._readers) == 1 and not self._writers:  # it can only be that one: ask nobody
                self._call(next(iter(self._readers.values())))
                return
            for number, events in self._set.poll(0, EVENTS_AT_ONCE):
                if events & ~select.EPOLLOUT:  # octets, an end, or an error that the reader will find
                    self._call(self._readers.get(number))
                if events & ~select.EPOLLIN:
                    self._call(self._writers.get(number))

        def _call(self, callback: Callable[[], Any] | None) -> None:
            if callback is None:
                return  # an earlier callback of this turn removed it
            try:
                callback()
            except Exception as error:  # one socket's failure must not keep the others from being served
                self._loop.call_exception_handler({"message": "a socket's callback failed", "exception": error})


# Weak on both sides: a loop keeps its poller while it watches anything, and nothing keeps a loop that is over.
_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[Poller]] = WeakKeyDictionary()


def poller_of(loop: asyncio.AbstractEventLoop) -> Poller:
    """What watches the sockets of `loop`: the same object for as long as anybody has it."""
    if sys.platform != "linux" or getattr(loop, "taps_network", None) is not None:
        return loop
    known = _pollers.get(loop)
    poller = known() if known is not None else None
    if poller is None:
        poller = EpollPoller(loop)
        _pollers[loop] = ref(poller)
    return poller
