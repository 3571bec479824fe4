"""A loop whose time stands still until nothing is left to do: enough for races without sockets."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from taps_security.transport.network import ResolvedAddress

_T = TypeVar("_T")


class _Selector(selectors.SelectSelector):
    """Does not wait: time jumps to the next timer instead."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.loop.jump(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, starting at 0 seconds."""

    def __init__(self) -> None:
        self._now = 0.0
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self._now

    def jump(self, timeout: float | None) -> None:
        if timeout is None:
            raise AssertionError("nothing would ever happen again")
        if timeout > 0:
            self._now = self._scheduled[0].when()  # type: ignore[attr-defined]


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; nothing may be left behind."""
    loop = VirtualTimeLoop()
    try:
        result = loop.run_until_complete(main)
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks left: {left}"
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert not timers, f"timers left: {timers}"
        return result
    finally:
        loop.close()


class NameServer:
    """The resolver half of a network: name -> (seconds, addresses) per family."""

    def __init__(self, **answers: tuple[float, Sequence[str]] | float) -> None:
        self.answers = answers  # "v6" and "v4", or "NAME_v6" ...; a bare number: an error after that time
        self.asked: list[tuple[str, int, float]] = []

    async def resolve(self, host: str, port: int | str, family: int = 0) -> Sequence[ResolvedAddress]:
        loop = asyncio.get_running_loop()
        self.asked.append((host, family, loop.time()))
        key = "v6" if family == socket.AF_INET6 else "v4"
        if isinstance(port, str) and not port.isdigit():
            raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported")
        answer = self.answers.get(f"{host.partition('.')[0]}_{key}", self.answers.get(key, 0.0))
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        await asyncio.sleep(answer[0])
        return [ResolvedAddress(address, int(port), family) for address in answer[1]]
