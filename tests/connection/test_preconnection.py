"""Preconnection: configuration-time errors, explain(), what the race is given, binding."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from taps_security.connection import preconnection as module
from taps_security.connection.performance import PerformanceCache
from taps_security.connection.preconnection import Preconnection
from taps_security.properties.endpoints import LocalEndpoint, RemoteEndpoint
from taps_security.properties.security import SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.properties.trust import Trust
from taps_security.protocols import registry
from taps_security.stack.errors import ConfigurationError, EstablishmentError, Reason
from taps_security.transport.network import StreamOptions
from tests.connection.clock import NameServer, VirtualTimeLoop, run
from tests.connection.toy import ToyOptions, toy

A, B = "192.0.2.1", "192.0.2.2"
PINNED = Trust.pins("00" * 32)


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    """Two protocols that qualify and one without its credentials."""
    registered = [
        registry.register(protocol)
        for protocol in (
            toy("toy", screener=lambda request: None),
            toy("roaming", "connection_mobility"),
            toy("keyless", "post_quantum", missing="a key (psk=)"),
        )
    ]
    yield
    for one in registered:
        one.withdraw()


def declared(*addresses: str, stacks: Sequence[str] = ("toy",), **changes: Any) -> Preconnection:
    security = SecurityParameters(stacks=stacks, trust=PINNED, **changes.pop("security", {}))
    endpoints = [RemoteEndpoint(ip_address=address, port=443) for address in addresses]
    return Preconnection(remote_endpoints=changes.pop("remotes", endpoints), security_parameters=security, **changes)


# -------------------------------------------------------------------------------------------------- configuration time
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: declared(stacks=["tsl"]), "stack: 'tsl' was given, expected one of 'tls'"),
        (lambda: declared(stacks=["toy/9"]), "stack: 'toy/9' was given, expected toy in version '1'"),
        (
            lambda: declared(security={"options": {"toy": 5}}),
            "options['toy']: 5 was given, expected ToyOptions",
        ),
        (lambda: Preconnection(remote_endpoints="a"), "remote_endpoints: 'a' was given, expected a list"),
        (lambda: Preconnection(remote_endpoints=["a"]), "remote_endpoints: 'a' was given, expected RemoteEndpoint"),
        (
            lambda: Preconnection(local_endpoints=[RemoteEndpoint(host_name="a")]),
            "local_endpoints: RemoteEndpoint(",
        ),
        (
            lambda: Preconnection(remote_endpoints=[RemoteEndpoint(host_name="a", protocol="tsl")]),
            "stack: 'tsl' was given",
        ),
        (lambda: Preconnection(transport_properties=5), "transport_properties: 5 was given"),
        (lambda: Preconnection(security_parameters=5), "security_parameters: 5 was given"),
    ],
)
def test_wrong_declarations(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}"):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (declared, "initiate(): no remote endpoint was given, expected at least one RemoteEndpoint"),
        (
            lambda: declared(remotes=[RemoteEndpoint(host_name="a")]),
            "RemoteEndpoint a: no port was given, expected port or service",
        ),
        (
            lambda: declared(A, stacks=["toy", "keyless"], security={"require": {"post_quantum"}}),
            "initiate(): no protocol stack can do what was declared: toy/1 does not provide post_quantum (require: "
            "not provided). keyless/1 lacks a credential: a key (psk=)",
        ),
        (
            lambda: declared(A, transport_properties=TransportProperties(interface={"eth0": "prohibit"})),
            "interface: 'eth0' was prohibited",
        ),
        (
            lambda: declared(A, transport_properties=TransportProperties(pvd={"home": "require"})),
            "pvd: 'home' was required",
        ),
    ],
)
def test_what_nothing_can_do_fails_before_anything_is_sent(make: Callable[[], Preconnection], text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}"):
        run(make().initiate())


def test_times_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="timeout: 0 was given"):
        run(declared(A).initiate(timeout=0))
    with pytest.raises(ConfigurationError, match="handshake_timeout: -1 was given"):
        run(declared(A).initiate(handshake_timeout=-1))


def test_a_trust_file_that_is_not_there_is_named_at_once() -> None:
    security = SecurityParameters(stacks=["toy"], trust=Trust.file("absent.pem"))
    preconnection = Preconnection((), [RemoteEndpoint(ip_address=A, port=1)], None, security)
    with pytest.raises(ConfigurationError, match=r"trust: absent\.pem: cannot read trust anchors"):
        run(preconnection.initiate())


# ------------------------------------------------------------------------------------------------------------ explain
def test_explain_is_data_with_the_words_of_the_command() -> None:
    told = declared(stacks=["toy", "roaming", "keyless"], security={"prefer": {"connection_mobility"}}).explain()
    assert list(told) == ["candidates"]
    rows = told["candidates"]
    assert [(row["stack"], row["version"], row["kept"], row["rank"]) for row in rows[:3]] == [
        ("roaming", "1", True, 0),
        ("toy", "1", True, 1),
        ("keyless", "1", False, None),
    ]
    assert set(rows[0]) == {"stack", "version", "configuration", "kept", "rank", "reasons"}
    assert {
        "property": "connection_mobility",
        "preference": "prefer",
        "provides": True,
        "effect": "ranked up",
        "why": "toy",
    } in rows[0]["reasons"]
    assert rows[2]["reasons"][-1]["why"] == "a key (psk=)"
    assert {row["stack"] for row in rows} == set(registry.names())


def test_explain_never_fails_for_what_was_declared() -> None:
    told = declared(security={"require": {"key_import"}}).explain("listen")
    assert not any(row["kept"] for row in told["candidates"])
    with pytest.raises(ConfigurationError, match="explain: 'connect' was given, expected 'initiate' or 'listen'"):
        declared().explain("connect")


def test_explain_shows_earlier_results_unless_sessions_are_isolated() -> None:
    cache = PerformanceCache(clock=lambda: 0.0)
    cache.record("", "toy/1", A, worked=False)
    preconnection = declared(A, stacks=["toy", "roaming"], performance=cache)
    assert [row["stack"] for row in preconnection.explain()["candidates"][:2]] == ["roaming", "toy"]
    preconnection.transport_properties = TransportProperties(isolate_session=True)
    assert [row["stack"] for row in preconnection.explain()["candidates"][:2]] == ["toy", "roaming"]


# ----------------------------------------------------------------------------------------------------------- initiate
class Established:
    """What establish_stream() would have made."""

    def __init__(self, remote: object) -> None:
        self.remote = remote
        self.properties: object = None
        self.phases: tuple[Any, ...] = ()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Establisher:
    """Stands in for establish_stream(): addresses either answer after some time, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **unused: object) -> None:
        self.calls: list[tuple[float, Any, Any, StreamOptions]] = []
        self.answers: dict[str, float | Exception] = {}
        monkeypatch.setattr(module, "establish_stream", self.establish)

    async def establish(
        self,
        network: object,
        loop: asyncio.AbstractEventLoop,
        make: object,
        remote: tuple[str, int],
        local: object = None,
        options: StreamOptions = StreamOptions(),  # noqa: B008
        on_phase: Callable[[str], None] = lambda name: None,
    ) -> Established:
        self.calls.append((round(loop.time(), 6), remote, local, options))
        answer = self.answers.get(remote[0], 0.0)
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer)
        on_phase("connect")
        on_phase("handshake")
        return Established(remote)


@pytest.fixture
def establisher(monkeypatch: pytest.MonkeyPatch) -> Establisher:
    return Establisher(monkeypatch)


async def initiate(preconnection: Preconnection, server: NameServer | None = None, **arguments: Any) -> Any:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.taps_network = server or NameServer()  # type: ignore[attr-defined]
    return await preconnection.initiate(**arguments)


def test_the_first_ready_connection_is_returned_with_a_report(establisher: Establisher) -> None:
    establisher.answers = {A: 1e9}
    preconnection = declared(A, B)
    connection = run(initiate(preconnection))
    assert connection.remote == (B, 443)
    assert connection.properties is preconnection.transport_properties
    assert [call[0] for call in establisher.calls] == [0.0, 0.25]
    assert preconnection.race is not None
    assert preconnection.race.winner is preconnection.race.attempts[1]
    assert [phase.name for phase in connection.phases] == ["connect", "handshake"]


def test_a_silent_peer_is_given_up_after_ten_seconds(establisher: Establisher) -> None:
    establisher.answers = {A: 1e9}
    with pytest.raises(EstablishmentError, match="no answer within 10 s") as caught:
        run(initiate(declared(A)))
    assert caught.value.reason is Reason.TIMEOUT
    with pytest.raises(EstablishmentError, match="no answer within 3 s"):
        run(initiate(declared(A), handshake_timeout=3))
    with pytest.raises(EstablishmentError, match="nothing became ready within 2 s"):
        run(initiate(declared(A), timeout=2))


def test_local_endpoints_choose_family_address_and_port(establisher: Establisher) -> None:
    remotes = [RemoteEndpoint(host_name="server.example", port=443)]
    server = NameServer(v6=(0.0, ["2001:db8::1"]), v4=(0.0, [A]))
    run(initiate(declared(remotes=remotes, local_endpoints=[LocalEndpoint(ip_address="127.0.0.1", port=9)]), server))
    run(initiate(declared(remotes=remotes, local_endpoints=[LocalEndpoint(port=9)]), server))
    run(initiate(declared(remotes=remotes), server))
    assert [call[1:3] for call in establisher.calls] == [
        ((A, 443), ("127.0.0.1", 9)),
        (("2001:db8::1", 443), ("::", 9)),
        (("2001:db8::1", 443), None),
    ]


def test_a_local_host_name_is_resolved(establisher: Establisher) -> None:
    server = NameServer(here_v6=0.0, here_v4=(0.0, ["127.0.0.2"]))
    run(initiate(declared(A, local_endpoints=[LocalEndpoint(host_name="here.example")]), server))
    assert establisher.calls[0][2] == ("127.0.0.2", 0)


def test_a_local_host_name_without_address(establisher: Establisher) -> None:
    preconnection = declared(A, local_endpoints=[LocalEndpoint(host_name="here.example")])
    with pytest.raises(EstablishmentError, match=r"^initiate\(\): cannot resolve 'here\.example'"):
        run(initiate(preconnection, NameServer(v6=0.0, v4=0.0)))


def test_cancelling_while_a_local_name_resolves_leaves_nothing(establisher: Establisher) -> None:
    preconnection = declared(A, local_endpoints=[LocalEndpoint(host_name="here.example")])

    async def main() -> None:
        task = asyncio.ensure_future(initiate(preconnection, NameServer(v6=9.0, v4=9.0)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_prohibited_interface_and_a_bound_one(establisher: Establisher) -> None:
    transport = TransportProperties(interface={"wlan0": "prohibit"})
    local = [LocalEndpoint(interface="eth0"), LocalEndpoint(interface="wlan0")]
    run(initiate(declared(A, transport_properties=transport, local_endpoints=local)))
    assert establisher.calls[0][3].interface == "eth0"


def test_temporary_addresses_are_avoided_by_ipv4(establisher: Establisher) -> None:
    remotes = [RemoteEndpoint(host_name="server.example", port=443)]
    server = NameServer(v6=(0.0, ["2001:db8::1"]), v4=(0.1, [A]))
    transport = TransportProperties(use_temporary_local_address="prohibit")
    run(initiate(declared(remotes=remotes, transport_properties=transport), server))
    assert [call[:2] for call in establisher.calls] == [(0.1, (A, 443))]


def test_properties_reach_the_socket(establisher: Establisher) -> None:
    transport = TransportProperties(conn_timeout=9, keep_alive="require", interface={"eth0": "require"})
    run(initiate(declared(A, transport_properties=transport)))
    assert establisher.calls[0][3] == StreamOptions(keep_alive=True, user_timeout_seconds=9.0, interface="eth0")


def test_earlier_results_order_the_next_race_unless_isolated(establisher: Establisher) -> None:
    establisher.answers = {A: ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")}
    preconnection = declared(A, B)
    run(initiate(preconnection))
    run(initiate(preconnection))
    assert [call[1][0] for call in establisher.calls] == [A, B, B]
    preconnection.transport_properties = TransportProperties(isolate_session=True)
    run(initiate(preconnection))
    assert [call[1][0] for call in establisher.calls[3:]] == [A, B]


def test_later_changes_do_not_touch_a_running_race(establisher: Establisher) -> None:
    establisher.answers = {A: 0.5}
    preconnection = declared(A)

    async def main() -> Any:
        task = asyncio.ensure_future(initiate(preconnection))
        await asyncio.sleep(0.1)
        preconnection.remote_endpoints = ()
        preconnection.transport_properties = TransportProperties(conn_timeout=1)
        return await task

    connection = run(main())
    assert connection.remote == (A, 443)
    assert connection.properties.conn_timeout is None


def test_several_configurations_race(establisher: Establisher) -> None:
    establisher.answers = {A: 0.3}
    preconnection = declared(A, security={"options": {"toy": [ToyOptions(1), ToyOptions(2)]}})
    run(initiate(preconnection))
    assert [call[0] for call in establisher.calls] == [0.0, 0.25]


def test_endpoints_can_be_added() -> None:
    preconnection = declared(A)
    preconnection.add_remote(RemoteEndpoint(ip_address=B, port=1))
    assert repr(preconnection) == f"<Preconnection to {A}:443, {B}:1>"
    assert repr(Preconnection()) == "<Preconnection to anybody>"


def test_resolve() -> None:
    server = NameServer(server_v6=(0.1, ["2001:db8::1"]), server_v4=(0.0, [A]), nowhere_v6=0.0, nowhere_v4=0.0)

    async def resolve(name: str) -> Any:
        asyncio.get_running_loop().taps_network = server  # type: ignore[attr-defined]
        remotes = [RemoteEndpoint(host_name=name, port=443), RemoteEndpoint(ip_address=B, port=1)]
        return await declared(remotes=remotes, local_endpoints=[LocalEndpoint(port=7)]).resolve()

    local, remote = run(resolve("server.example"))
    assert [one.ip_address for one in remote] == ["2001:db8::1", A, B]
    assert [one.host_name for one in remote] == ["server.example", "server.example", None]
    assert local == [LocalEndpoint(port=7)]
    with pytest.raises(EstablishmentError, match=r"^resolve\(\): cannot resolve 'nowhere\.example'") as caught:
        run(resolve("nowhere.example"))
    assert caught.value.reason is Reason.RESOLUTION_FAILED


# ------------------------------------------------------------------------------------------------------------- listen
class Loopback(NameServer):
    """The listening half of a network, with real sockets."""

    def listen_stream(self, local: tuple[str, int], backlog: int = 512, **_: object) -> socket.socket:
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(local)
            sock.listen(backlog)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return sock


def listening(*local: LocalEndpoint, **changes: Any) -> Preconnection:
    loop = asyncio.get_running_loop()
    loop.taps_network = Loopback(v6=0.0, v4=(0.0, ["127.0.0.1"]))  # type: ignore[attr-defined]
    security = SecurityParameters(stacks=changes.pop("stacks", ["toy"]), **changes)
    return Preconnection(local, (), None, security)


@pytest.mark.parametrize("local", [LocalEndpoint(ip_address="127.0.0.1"), LocalEndpoint(host_name="localhost", port=0)])
async def test_port_0_is_read_back(local: LocalEndpoint) -> None:
    async with await listening(local).listen() as listener:
        assert listener.addresses == (("127.0.0.1", listener.port),)
        assert listener.port > 0


async def test_without_an_address_both_families_listen_on_one_port() -> None:
    async with await listening().listen() as listener:
        assert {port for _, port in listener.addresses} == {listener.port}
        assert [host for host, _ in listener.addresses] in [["0.0.0.0", "::"], ["0.0.0.0"]]


async def test_a_port_in_use_says_what_where_and_what_to_do() -> None:
    async with await listening(LocalEndpoint(ip_address="127.0.0.1")).listen() as listener:
        again = listening(LocalEndpoint(ip_address="127.0.0.1", port=listener.port))
        text = f"listen(): 127.0.0.1:{listener.port} is in use; choose another port, or 0 for a free one"
        with pytest.raises(EstablishmentError, match=f"^{re.escape(text)}$") as caught:
            await again.listen()
        assert caught.value.reason is Reason.ADDRESS_IN_USE


async def test_an_address_of_another_machine() -> None:
    with pytest.raises(EstablishmentError, match=r"cannot bind 192\.0\.2\.1:0: .*; this machine has no such address"):
        await listening(LocalEndpoint(ip_address="192.0.2.1")).listen()


async def test_if_one_address_cannot_be_bound_none_is() -> None:
    endpoints = [LocalEndpoint(ip_address="127.0.0.1"), LocalEndpoint(ip_address="192.0.2.1")]
    with pytest.raises(EstablishmentError):
        await listening(*endpoints).listen()


async def test_what_a_listener_refuses() -> None:
    with pytest.raises(ConfigurationError, match=r"listen\(\): 'toy', 'roaming' would share one port, expected one"):
        await listening(stacks=["toy", "roaming"]).listen()
    with pytest.raises(
        ConfigurationError, match=r"listen\(\): no protocol stack can do .* keyless/1 lacks a credential"
    ):
        await listening(stacks=["keyless"]).listen()
    kept_to = listening()
    kept_to.transport_properties = TransportProperties(interface={"eth0": "require"})
    with pytest.raises(
        ConfigurationError, match=r"listen\(\): interface 'eth0' was given with 'require', expected a Loc"
    ):
        await kept_to.listen()
    unknown = listening(LocalEndpoint(service="nothing"))
    with pytest.raises(EstablishmentError, match=r"listen\(\): service 'nothing' is not known: Servname not"):
        await unknown.listen()
    with pytest.raises(ConfigurationError, match="max_establishing: 0 was given"):
        await listening().listen(max_establishing=0)
    with pytest.raises(ConfigurationError, match="backlog: 0 was given"):
        await listening().listen(backlog=0)
