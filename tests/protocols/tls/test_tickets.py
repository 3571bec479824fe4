from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.codec import MalformedMessage
from taps_security.protocols.tls.keys import CIPHER_SUITES, TLS_AES_128_GCM_SHA256
from taps_security.protocols.tls.tickets import ServerSession, Session, TicketKeys
from taps_security.stack.errors import ConfigurationError

from .pair import AT, Clock, Randomness

u32 = st.integers(0, 0xFFFFFFFF)
times = st.integers(0, 2**40).map(lambda milliseconds: milliseconds / 1000)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", max_size=50)
protocols = st.none() | st.text(min_size=1, max_size=20)
chains = st.lists(st.binary(min_size=1, max_size=100), max_size=3).map(tuple)
suites = st.sampled_from(list(CIPHER_SUITES.values()))
sessions = st.builds(
    Session,
    st.binary(min_size=1, max_size=300),
    st.binary(min_size=32, max_size=48),
    suites,
    u32,
    u32,
    times,
    times,
    names,
    protocols,
    chains,
    st.binary(max_size=30),
    st.booleans(),
)
server_sessions = st.builds(
    ServerSession,
    st.binary(min_size=32, max_size=48),
    suites,
    times,
    u32,
    u32,
    times,
    names,
    protocols,
    chains,
    st.binary(max_size=30),
)


@given(sessions)
def test_sessions_round_trip(session: Session) -> None:
    assert Session.parse(session.serialise()) == session


@given(server_sessions)
def test_server_sessions_round_trip(session: ServerSession) -> None:
    assert ServerSession.parse(session.serialise()) == session
    assert ServerSession.parse(session.serialise(), b"name") == session.named(b"name")


def session() -> Session:
    return Session(b"ticket", b"p" * 32, TLS_AES_128_GCM_SHA256, 100, 7, AT, AT, "server.example", "h2", (b"der",))


def server_session(**changes: object) -> ServerSession:
    fields = {"issued_at": AT, "lifetime": 100, "authenticated_at": AT, "server_name": "server.example"} | changes
    return ServerSession(psk=b"p" * 32, suite=TLS_AES_128_GCM_SHA256, age_add=7, alpn=None, **fields)  # type: ignore[arg-type]


def test_damaged_sessions() -> None:
    saved = session().serialise()
    for length in range(len(saved)):
        with pytest.raises(ConfigurationError):
            Session.parse(saved[:length])
    for wrong in (saved + b"\0", saved.replace(b"\x13\x01", b"\x13\x77"), saved.replace(b"h2", b"\xff\xff")):
        with pytest.raises(ConfigurationError):
            Session.parse(wrong)
    with pytest.raises(ConfigurationError, match="another version"):
        Session.parse(saved.replace(b"\n\x03\x04", b"\n\x03\x03"))


def test_damaged_server_sessions() -> None:
    saved = server_session().serialise()
    for length in range(len(saved)):
        with pytest.raises(MalformedMessage):
            ServerSession.parse(saved[:length])
    with pytest.raises(MalformedMessage):
        ServerSession.parse(b"\x03\x03" + saved[2:])
    with pytest.raises(MalformedMessage):
        ServerSession.parse(saved.replace(b"server", b"\xffrver"))


def test_lifetimes_of_sessions() -> None:
    one = session()
    assert one.usable("server.example", AT)
    assert one.usable("server.example", AT + 99.9)
    assert not one.usable("server.example", AT + 100)
    assert not one.usable("server.example", AT - 1)
    assert not one.usable("other.example", AT)
    long = Session(b"t", b"p" * 32, TLS_AES_128_GCM_SHA256, 0xFFFFFFFF, 0, AT, AT, "", None, (b"der",))
    assert long.usable("", AT + 604_799)
    assert not long.usable("", AT + 604_800)


def test_lifetimes_of_server_sessions() -> None:
    assert server_session().usable("server.example", AT + 99)
    assert not server_session().usable("server.example", AT + 100)
    assert not server_session().usable("other.example", AT)
    assert not server_session(authenticated_at=AT - 604_800).usable("server.example", AT)


def test_secrets_stay_out_of_repr() -> None:
    assert "ppp" not in repr(session())
    assert "ppp" not in repr(server_session())


def test_tickets_open_with_their_keys_alone() -> None:
    keys = TicketKeys(Randomness(), Clock())
    ticket = keys.seal(server_session())
    assert ticket is not None
    assert b"server.example" not in ticket
    assert keys.open_untrusted(ticket) == server_session(ticket=ticket)
    assert TicketKeys(Randomness(b"others"), Clock()).open_untrusted(ticket) is None
    for place in range(len(ticket)):
        spoilt = bytearray(ticket)
        spoilt[place] ^= 1
        assert keys.open_untrusted(bytes(spoilt)) is None
    for length in range(len(ticket)):
        assert keys.open_untrusted(ticket[:length]) is None


def test_keys_rotate() -> None:
    clock = Clock()
    keys = TicketKeys(Randomness(), clock, rotation=1000, lifetime=5000)
    first = keys.seal(server_session())
    clock.now += 999
    second = keys.seal(server_session())
    clock.now += 2
    third = keys.seal(server_session())
    assert first is not None
    assert second is not None
    assert third is not None
    assert first[:16] == second[:16] != third[:16]
    assert keys.open_untrusted(first) is not None
    clock.now = AT + 5999
    assert keys.open_untrusted(first) is not None
    clock.now = AT + 6000
    assert keys.open_untrusted(first) is None
    keys.seal(server_session())
    assert len(keys._keys) == 2


def test_a_clock_that_goes_back_gives_a_new_key() -> None:
    clock = Clock()
    keys = TicketKeys(Randomness(), clock)
    first = keys.seal(server_session())
    clock.now -= 10
    second = keys.seal(server_session())
    assert first is not None
    assert second is not None
    assert first[:16] != second[:16]


def test_many_rotations_keep_few_keys() -> None:
    clock = Clock()
    keys = TicketKeys(Randomness(), clock, rotation=0.001, lifetime=6400)
    for _ in range(300):
        keys.seal(server_session())
        clock.now += 100
    assert len(keys._keys) <= 67


def test_a_session_too_large_for_a_ticket() -> None:
    assert TicketKeys(Randomness(), Clock()).seal(server_session(peer_chain=(bytes(40_000),))) is None


@pytest.mark.parametrize("wrong", [{"rotation": 0}, {"lifetime": 0}, {"lifetime": 604_801}])
def test_wrong_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        TicketKeys(Randomness(), Clock(), **wrong)
