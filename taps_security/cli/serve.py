"""`taps serve`: listens with every stack that qualifies, and runs an app on each connection."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..connection.assembly import KeyLog
from ..connection.candidates import require_stacks
from ..connection.connection import Connection
from ..connection.listener import Listener
from ..connection.preconnection import Preconnection
from ..properties.endpoints import LocalEndpoint
from ..properties.security import Role
from ..stack.errors import TapsError
from .apps import APPS, App
from .errors import say, told
from .options import Declared
from .relay import Traffic, keeps_messages
from .status import ControlSocket

GRACE = 5.0  # seconds that connections have to finish after SIGTERM
IDLE = 60.0  # seconds without a message after which a connection without an end of its own is over


@dataclass(frozen=True, slots=True)
class Service:
    """What to serve, where and how. `grace`: seconds for connections that are open at SIGTERM.

    `idle`: seconds without a message after which a connection that has no end of its own is over.
    """

    local: LocalEndpoint
    declared: Declared
    app: str = "echo"
    once: bool = False
    grace: float = GRACE
    idle: float = IDLE
    control: Path | None = None
    key_log: KeyLog | None = None
    verbose: bool = False


@dataclass(slots=True, eq=False)
class Served:
    """One connection while it is served."""

    connection: Connection
    since: float
    traffic: Traffic = field(default_factory=Traffic)

    def as_json(self, now: float) -> dict[str, Any]:
        """The words of `taps status`."""
        report = self.connection.security.as_json()
        return {
            "stack": report["stack"],
            "version": report["version"],
            "remote": place(self.connection.remote_endpoint),
            "local": place(self.connection.local_endpoint),
            "peer": report["peer"],
            "alpn": report["alpn"],
            "resumed": report["resumed"],
            "algorithms": report["algorithms"],
            "age": now - self.since,
            "received": self.traffic.received,
            "sent": self.traffic.sent,
            "keys": alive(report["keys"], now),
        }


def alive(records: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    """The keys in use, with their age in seconds, from what happened to them."""
    keys: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        name = (record["stage"], record["generation"], record["direction"])
        if record["event"] == "ready":
            words = dict(zip(("stage", "generation", "direction"), name, strict=True))
            keys[name] = {**words, "age": now - record["time"], "limits": record["limits"]}
        elif record["event"] == "discarded":
            keys.pop(name, None)
    return list(keys.values())


def place(address: Sequence[Any] | None) -> str:
    """HOST:PORT, with brackets around IPv6; empty for None."""
    if address is None:
        return ""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def run(service: Service) -> None:
    """Serve until SIGTERM, or with `once` until one connection is over. Raises what went wrong."""
    await _Server(service).run()


class _Server:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._app: App = APPS[service.app]()
        self._tasks: dict[asyncio.Task[None], Connection] = {}
        self._peers: dict[Served, None] = {}
        self._served = 0
        self._began = self._loop.time()
        self._stop = asyncio.Event()
        self._listening: list[Listener] = []
        self._failure: BaseException | None = None

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            for preconnection in self._preconnections():
                self._listening.append(await stack.enter_async_context(await preconnection.listen()))
            if self._service.control is not None:
                await stack.enter_async_context(ControlSocket(self._service.control, self.as_json))
            with _on_terminate(self._loop, self._stop.set):
                for listener in self._listening:
                    for name, address in listener.stacks:
                        print(f"ready {name} {place(address)}", flush=True)
                try:
                    await self._accept_all()
                finally:
                    await self._end()
        if self._failure is not None and self._service.once:
            raise self._failure

    def _preconnections(self) -> list[Preconnection]:
        """One for all protocols that can share a port number, one for each that cannot. ConfigurationError: none can.

        Packet stacks have ports of their own, and of protocols over TCP a port has one.
        """
        service, declared = self._service, self._service.declared

        def made(stacks: tuple[str, ...]) -> Preconnection:
            return Preconnection(
                local_endpoints=[service.local],
                transport_properties=declared.transport,
                security_parameters=declared.security.replace(stacks=stacks),
                key_log=service.key_log,
            )

        considered = made(declared.security.stacks).considered(Role.SERVER)
        shared: list[str] = []
        alone: dict[str, list[str]] = {}
        streams = ""
        for choice in require_stacks(considered, "serve"):
            name, carrier = choice.protocol.name, choice.protocol.carrier
            streams = streams or (name if carrier == "tcp" else "")
            if choice.protocol.tunnel is not None or (carrier == "tcp" and name != streams):
                alone.setdefault(name, []).append(choice.name)
            else:
                shared.append(choice.name)
        groups = [shared, *alone.values()]
        return [made(tuple(dict.fromkeys(names))) for names in groups if names]

    # -- accepting ------------------------------------------------------------------------------------------------
    async def _accept_all(self) -> None:
        accepting = [self._loop.create_task(self._accept(listener)) for listener in self._listening]
        try:
            await self._stop.wait()
        finally:
            for task in accepting:
                task.cancel()
            await asyncio.gather(*accepting, return_exceptions=True)

    async def _accept(self, listener: Listener) -> None:
        async for connection in listener:
            if self._service.once and self._served:
                connection.abort()
                continue
            self._served += 1
            task = self._loop.create_task(self._serve(connection))
            self._tasks[task] = connection
            task.add_done_callback(self._tasks.pop)

    async def _serve(self, connection: Connection) -> None:
        peer = Served(connection, self._loop.time())
        self._peers[peer] = None
        try:
            async with connection:
                self._tell(f"{place(connection.remote_endpoint)} is here")
                await self._app(connection, peer.traffic, self._service.idle)
        except (TapsError, OSError) as error:
            self._failure = error
            say(f"{place(connection.remote_endpoint)}: {told(error)[1]}")
        finally:
            del self._peers[peer]
            self._tell(f"{place(connection.remote_endpoint)} is gone")
            if self._service.once:
                self._stop.set()

    def _tell(self, text: str) -> None:
        if self._service.verbose:
            say(text)

    # -- the end --------------------------------------------------------------------------------------------------
    async def _end(self) -> None:
        """Accept nothing more; connections that have an end get `grace` seconds to it, unless we are interrupted."""
        for listener in self._listening:
            listener.stop()
        try:
            ending = [task for task, connection in self._tasks.items() if not keeps_messages(connection)]
            if ending and self._stop.is_set():
                await asyncio.wait(ending, timeout=self._service.grace)
        finally:
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def as_json(self) -> dict[str, Any]:
        """What runs here, for `taps status`."""
        now = self._loop.time()
        return {
            "app": self._service.app,
            "age": now - self._began,
            "served": self._served,
            "stacks": [
                {"stack": name, "endpoint": place(address)}
                for listener in self._listening
                for name, address in listener.stacks
            ],
            "peers": [peer.as_json(now) for peer in self._peers],
            "tunnels": [
                {
                    "stack": listener.stacks[0][0],
                    "port": listener.tunnel.port,
                    "addresses": list(listener.tunnel.addresses),
                    "dropped": listener.tunnel.dropped,
                    "peers": [{**peer, "keys": alive(peer["keys"], now)} for peer in listener.tunnel.status()],
                }
                for listener in self._listening
                if listener.tunnel is not None
            ],
        }


class _on_terminate:  # noqa: N801 -- reads as a statement
    """Calls `callback` at SIGTERM, where the loop can be told so."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback

    def __enter__(self) -> None:
        with suppress(NotImplementedError):
            self._loop.add_signal_handler(signal.SIGTERM, self._callback)

    def __exit__(self, *_: object) -> None:
        with suppress(NotImplementedError):
            self._loop.remove_signal_handler(signal.SIGTERM)
