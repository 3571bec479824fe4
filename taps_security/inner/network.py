"""The inner host and its flows: which packet belongs to whom, on the way in and on the way out.

    InnerHost   one per tunnel: our addresses, ports, listeners
    InnerFlows  one per peer: its flows, what came for them, what there is to answer

Who may send from where is the tunnel's business (`allowed`): here it decides about new flows, about ICMP and about
packets for the packet flow. A known flow was asked for when it began; `recheck()` asks again.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from ..stack.errors import ConfigurationError, ConnectionLost, LocalError, Reason
from ..stack.events import Buffer, FlowId, FlowKind, FlowOpened
from ..stack.tunnel import FlowAddress
from .budget import Budget
from .checksum import pseudo_sum, word_sum
from .icmp import Echo, Kind, Problem, build_echo_reply, build_problem, may_report, parse_icmp_untrusted
from .ip import WHOLE, Packet, PacketRefused, WholeWriter, is_multicast, is_unicast, parse_packet_untrusted
from .limits import (
    ECHOES_AT_ONCE,
    ECHOES_PER_SECOND,
    EPHEMERAL_PORTS,
    ERRORS_AT_ONCE,
    ERRORS_PER_SECOND,
    EXTENSION_HEADERS,
    FLOWS_OF_A_PEER,
    ICMP,
    ICMPV6,
    MAX_MTU,
    MIN_IPV4_MTU,
    MIN_IPV6_MTU,
    TCP,
    UDP,
    UDP_HEADER,
)
from .udp import Writer, parse_datagram_untrusted

Port = tuple[bytes, int]  # a packed address of ours and a UDP port; b"" stands for all our addresses

# What the fast path looks at: version and header length, total length, flags and offset, protocol, both addresses and
# both ports (one key), length of the datagram, its checksum. IPv6: payload length, next header, and likewise.
_V4: Final = struct.Struct("!BxH2xHxB2x12sH").unpack_from
_V6: Final = struct.Struct("!4xHBx36sHH").unpack_from
_ALIKE: Final = struct.Struct("!I2xI2x14s").unpack_from  # of IPv4 all but the identification and both checksums
_V6_SIZE: Final = 48
_FRAGMENT: Final = 0x3FFF

# What is asked of a whole packet that goes out: version and header length, total or payload length, destination.
_OUT4: Final = struct.Struct("!BxH12x4s").unpack_from
_OUT6: Final = struct.Struct("!B3xH18x16s").unpack_from


def _packed(host: str) -> bytes:
    """An address as octets. ConfigurationError if the text is none."""
    try:
        return ipaddress.ip_address(host).packed
    except ValueError:
        raise ConfigurationError(f"inner address: {host!r} was given, expected an IPv4 or IPv6 address") from None


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))


# ---------------------------------------------------------------------------------------------------------------- host
class InnerHost:
    """Our end inside a tunnel. `addresses`: as "10.0.0.1/24"; `mtu`: octets of the largest inner packet that we send;
    `random`: octets of that number; `checksums`: as `udp.Writer` has it. ConfigurationError for what cannot be."""

    __slots__ = (
        "_listeners",
        "_networks",
        "_random",
        "_used",
        "addresses",
        "broadcasts",
        "checksums",
        "mtu",
        "networks",
        "packed",
    )

    def __init__(
        self, addresses: Sequence[str], mtu: int, random: Callable[[int], bytes], *, checksums: bool = True
    ) -> None:
        try:
            interfaces = [ipaddress.ip_interface(each) for each in addresses]
        except ValueError as error:
            raise ConfigurationError(f"inner addresses: {error}; expected addresses like '10.0.0.1/24'") from None
        least = MIN_IPV6_MTU if any(each.version == 6 for each in interfaces) else MIN_IPV4_MTU
        if not least <= mtu <= MAX_MTU:
            raise ConfigurationError(f"inner MTU: {mtu} was given, expected {least} to {MAX_MTU}")
        for each in interfaces:
            if not is_unicast(each.packed):
                raise ConfigurationError(f"inner addresses: {each} is not the address of one host")
        self.addresses = tuple([str(each.ip) for each in interfaces])
        self.networks = tuple([str(each.network) for each in interfaces])
        self.packed = frozenset([each.packed for each in interfaces])
        self.broadcasts = frozenset(
            [
                each.network.broadcast_address.packed
                for each in interfaces
                if each.version == 4 and each.network.prefixlen < 31  # RFC 3021: two hosts have none
            ]
        )
        self.mtu = mtu
        self.checksums = checksums
        self._networks = [(each.packed, each.network) for each in interfaces]
        self._random = random
        self._listeners: set[Port] = set()
        self._used: Counter[Port] = Counter()  # by flows that we opened

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Claim a UDP port (0: a free one) on one of our addresses ("": on all); what was claimed.

        LocalError if it is in use; ConfigurationError if the address is not ours.
        """
        address = self._own(host) if host else b""
        if not port:
            port = self._free(address)
        elif self._taken(address, port):
            raise LocalError(f"inner port {port} is in use", reason=Reason.ADDRESS_IN_USE)
        self._listeners.add((address, port))
        return _text(address) if address else "", port

    def unlisten(self, local: tuple[str, int]) -> None:
        """Let go of what listen() gave. Flows that it opened live on."""
        self._listeners.discard((_packed(local[0]) if local[0] else b"", local[1]))

    def listens(self, address: bytes, port: int) -> bool:
        """Whether somebody listens at that packed address of ours."""
        return (address, port) in self._listeners or (b"", port) in self._listeners

    def claim(self, remote: bytes, local: tuple[str, int]) -> Port:
        """A local end for a flow to `remote`: what `local` leaves open is chosen. release() gives it back.

        A port that is named may have several flows, to several remotes. LocalError if somebody listens there, or if we
        have no address of that family.
        """
        address = self._own(local[0]) if local[0] else self.source_for(remote)
        if len(address) != len(remote):
            raise LocalError(
                f"{local[0]} cannot reach {_text(remote)}: one is IPv4, the other IPv6", reason=Reason.UNREACHABLE
            )
        port = local[1] or self._free(address)
        if self.listens(address, port):
            raise LocalError(f"inner port {port} is in use by a listener", reason=Reason.ADDRESS_IN_USE)
        self._used[address, port] += 1
        return address, port

    def release(self, port: Port) -> None:
        """A flow with a claimed port is over."""
        self._used[port] -= 1
        if self._used[port] <= 0:
            del self._used[port]

    def source_for(self, remote: bytes) -> bytes:
        """Which of our addresses to send from: of the smallest network with the remote in it, else the first of its
        family. LocalError if there is none."""
        found, best = b"", -1
        target = ipaddress.ip_address(remote)
        for address, network in self._networks:
            if len(address) != len(remote):
                continue
            length = network.prefixlen if target in network else 0
            if length > best:
                found, best = address, length
        if not found:
            raise LocalError(f"no inner address of ours can reach {target}", reason=Reason.UNREACHABLE)
        return found

    def _own(self, host: str) -> bytes:
        address = _packed(host)
        if address not in self.packed:
            raise ConfigurationError(f"inner address: {host} is not ours, expected one of {', '.join(self.addresses)}")
        return address

    def _taken(self, address: bytes, port: int) -> bool:
        places = [address] if address else self.packed
        return (
            (b"", port) in self._listeners
            or any((place, port) in self._listeners for place in places)
            or any((place, port) in self._used for place in places)
        )

    def _free(self, address: bytes) -> int:
        """A port that nobody has, from a random place on (RFC 6056 §3.3.1)."""
        count = len(EPHEMERAL_PORTS)
        start = int.from_bytes(self._random(2), "big") % count
        for step in range(count):
            port = EPHEMERAL_PORTS[(start + step) % count]
            if not self._taken(address, port):
                return port
        raise LocalError("no inner port is free", reason=Reason.ADDRESS_IN_USE)


# --------------------------------------------------------------------------------------------------------------- flows
class _Flow:
    """One datagram flow. `key`: source, destination and both ports, as they stand in the packets of the peer."""

    __slots__ = ("claimed", "key", "local", "remote", "writer")

    def __init__(self, remote: Port, local: Port, host: InnerHost, *, claimed: bool) -> None:
        self.remote, self.local = remote, local
        self.claimed = claimed  # by us: the port is to be released
        self.key = _key(remote, local)
        self.writer = Writer(local, remote, checksums=host.checksums)

    @property
    def address(self) -> FlowAddress:
        return FlowAddress((_text(self.remote[0]), self.remote[1]), (_text(self.local[0]), self.local[1]))


def _key(remote: Port, local: Port) -> bytes:
    return b"".join((remote[0], local[0], remote[1].to_bytes(2, "big"), local[1].to_bytes(2, "big")))


class InnerFlows:
    """The inner flows through one peer. After receive(): take what stands in the five public containers, and clear
    them; all but `dropped`, which counts for as long as this lives, by a few fixed reasons.

    `allowed`: whether the peer may use a packed address. `verify`: compute UDP checksums of what comes; a tunnel that
    has authenticated the packets may do without. Payloads are views into the packets that receive() was given.
    """

    __slots__ = (
        "_allowed",
        "_by_key",
        "_echoes",
        "_errors",
        "_flows",
        "_host",
        "_next",
        "_of_peer",
        "_packet_flow",
        "_receivable",
        "_sendable",
        "_verify",
        "_writers",
        "dropped",
        "errors",
        "limits",
        "opened",
        "received",
        "replies",
    )

    def __init__(self, host: InnerHost, allowed: Callable[[bytes], bool], *, verify: bool = True) -> None:
        self.received: dict[FlowId, list[Buffer]] = {}  # datagrams' payloads; whole packets for the packet flow
        self.opened: list[FlowOpened] = []  # by the peer; `remote` is a FlowAddress
        self.replies: list[bytes] = []  # inner packets to send back
        self.errors: list[tuple[FlowId, Exception]] = []  # what ICMP says of our flows; they live on
        self.limits: dict[FlowId, int] = {}  # message_limit() of the datagram flows
        self.dropped: Counter[str] = Counter()
        self._host = host
        self._allowed = allowed
        self._verify = verify
        self._next: FlowId = 1
        self._flows: dict[FlowId, _Flow] = {}
        self._by_key: dict[bytes, FlowId] = {}
        self._writers: dict[FlowId, Writer | WholeWriter] = {}
        self._packet_flow: FlowId | None = None
        self._sendable = self._receivable = b""  # the last whole packet went to, or came from, that allowed address
        self._of_peer = 0
        self._errors = Budget(ERRORS_PER_SECOND, ERRORS_AT_ONCE)
        self._echoes = Budget(ECHOES_PER_SECOND, ECHOES_AT_ONCE)

    # -- flows ----------------------------------------------------------------------------------------------------
    def open(self, kind: FlowKind, address: FlowAddress | None = None) -> FlowId:
        """A flow of ours: DATAGRAM to `address`, or PACKET, of which there is one at most and which needs none.

        LocalError where the peer may not have that address, the port is in use, or the kind is another one.
        """
        if kind is FlowKind.PACKET:
            if self._packet_flow is not None:
                raise LocalError("this peer has a packet flow already", reason=Reason.ADDRESS_IN_USE)
            self._packet_flow = self._take_number()
            self._writers[self._packet_flow] = WHOLE
            return self._packet_flow
        if kind is not FlowKind.DATAGRAM or address is None:
            raise LocalError(f"inner flows carry datagrams or packets, not a {kind.value}", reason=Reason.NOT_SUPPORTED)
        host, port = address.remote
        remote = _packed(host)
        if not is_unicast(remote) or remote in self._host.packed or not 0 < port < 65_536:
            raise LocalError(f"{host} port {port} is not another host's port", reason=Reason.UNREACHABLE)
        if not self._allowed(remote):
            raise LocalError(f"{host} is not behind this peer", reason=Reason.UNREACHABLE)
        local = self._host.claim(remote, address.local)
        if _key((remote, port), local) in self._by_key:
            self._host.release(local)
            raise LocalError("there is an inner flow between these ports already", reason=Reason.ADDRESS_IN_USE)
        return self._add((remote, port), local, claimed=True)

    def address(self, flow: FlowId) -> FlowAddress:
        """Both ends of a datagram flow, with what was chosen; of the packet flow: empty ones."""
        return FlowAddress(("", 0)) if flow == self._packet_flow else self._flows[flow].address

    def close(self, flow: FlowId) -> None:
        """The flow is over on this side; UDP tells nobody. An unknown one is none any more."""
        if flow == self._packet_flow:
            self._packet_flow = None
            self._receivable = b""
        elif flow in self._flows:
            ended = self._flows.pop(flow)
            del self._by_key[ended.key]
            if ended.claimed:
                self._host.release(ended.local)
            else:
                self._of_peer -= 1
        self._writers.pop(flow, None)
        self.limits.pop(flow, None)

    def close_all(self) -> None:
        """All flows are over: their ports are free again."""
        for flow in tuple(self._writers):
            self.close(flow)

    def recheck(self) -> list[FlowId]:
        """The peer's addresses have changed: flows that it may not have any more are closed, and named."""
        self._sendable = self._receivable = b""
        gone = [flow for flow, each in self._flows.items() if not self._allowed(each.remote[0])]
        for flow in gone:
            self.close(flow)
        return gone

    def _take_number(self) -> FlowId:
        self._next += 1
        return self._next - 1

    def _add(self, remote: Port, local: Port, *, claimed: bool) -> FlowId:
        number = self._take_number()
        flow = self._flows[number] = _Flow(remote, local, self._host, claimed=claimed)
        self._by_key[flow.key] = number
        self._writers[number] = flow.writer
        self.limits[number] = self._host.mtu - flow.writer.overhead
        self._of_peer += not claimed
        return number

    # -- out ------------------------------------------------------------------------------------------------------
    def overhead(self, flow: FlowId) -> int:
        """Octets that write() puts in front of a message: 28 over IPv4, 48 over IPv6, none in the packet flow."""
        return self._writers[flow].overhead

    def message_limit(self, flow: FlowId) -> int:
        """The largest message in octets. ICMP may make it smaller while the flow lives."""
        return self._host.mtu if flow == self._packet_flow else self.limits[flow]

    def check(self, flow: FlowId, message: Buffer) -> None:
        """Before a message is queued. LocalError if it is too long, or no packet that this peer may be sent."""
        if len(message) > self.message_limit(flow):
            raise LocalError(
                f"a message of {len(message)} octets; at most {self.message_limit(flow)} fit into an inner packet",
                reason=Reason.MESSAGE_TOO_LARGE,
            )
        if flow == self._packet_flow and not self._is_like_the_last(message):
            try:
                packet = parse_packet_untrusted(message if isinstance(message, bytes) else memoryview(message))
            except PacketRefused as error:
                raise LocalError(f"not an IP packet: {error.why}", reason=Reason.MALFORMED) from None
            if len(packet.octets) != len(message):
                raise LocalError("octets stand behind the end of the IP packet", reason=Reason.MALFORMED)
            if not self._allowed(packet.destination):
                raise LocalError(f"{_text(packet.destination)} is not behind this peer", reason=Reason.UNREACHABLE)
            self._sendable = packet.destination

    def check_all(self, flow: FlowId, messages: Sequence[Buffer]) -> None:
        """check() of many, at least one: only what differs from the packet before it costs as much."""
        check = self.check
        if max(map(len, messages)) > self.message_limit(flow):
            for message in messages:
                check(flow, message)
        elif flow == self._packet_flow:
            last = self._sendable
            for message in messages:
                try:
                    first, length, destination = _OUT4(message)
                except struct.error:  # too short
                    first, length, destination = 0, 0, b""
                if (
                    first != 0x45
                    or destination != last
                    or length != len(message)
                    or int.from_bytes(message[:20], "little") % 0xFFFF  # the header's checksum
                ):
                    check(flow, message)
                    last = self._sendable

    def _is_like_the_last(self, message: Buffer) -> bool:
        """Whether it is a packet without options to where the last one went: nothing more has to be asked."""
        try:
            first, length, destination = _OUT4(message)
            if first == 0x45:
                return destination == self._sendable and length == len(message) and not word_sum(message[:20])
            first, length, destination = _OUT6(message)
        except struct.error:  # too short
            return False
        return bool(first >> 4 == 6 and destination == self._sendable and length + 40 == len(message))

    def writer(self, flow: FlowId) -> Writer | WholeWriter:
        """What makes packets of a flow's messages. KeyError if the flow is over."""
        return self._writers[flow]

    # -- in -------------------------------------------------------------------------------------------------------
    def receive(self, packets: Sequence[memoryview], now: float) -> None:
        """Decrypted inner packets, zero padded or not. Never raises: what is wrong is dropped, and counted why."""
        if len(packets) > 1 and not self._verify and self._receive_alike(packets):
            return
        known, received, verify = self._by_key, self.received, self._verify
        nobody: list[Buffer] = []
        last, take = b"-", nobody.append  # no packet has such a key
        whole, source = self._packet_flow or 0, self._receivable  # TCP from there is nobody else's: no more is asked
        for packet in packets:
            try:
                first, total, fragment, protocol, key, length = _V4(packet)
                if first == 0x45:
                    start, stop = 28, length + 20
                    if protocol == TCP and key[:4] == source and 40 <= total <= len(packet):
                        self._deliver(whole, packet[:total])
                        continue
                    if protocol != UDP or fragment & _FRAGMENT:
                        key = b""  # which no flow has
                else:
                    total, protocol, key, length, checksum = _V6(packet)
                    start, stop = _V6_SIZE, length + 40
                    total += 40
                    if first >> 4 != 6 or protocol != UDP or not checksum:
                        if first >> 4 == 6 and protocol == TCP and key[:16] == source and 60 <= total <= len(packet):
                            self._deliver(whole, packet[:total])
                            continue
                        key = b""
            except struct.error:  # too short for a datagram
                self._sort(packet, now)
                continue
            if (
                (key != last and key not in known)
                or not start <= stop <= total <= len(packet)
                or (verify and not _intact(packet, start, stop))
            ):
                self._sort(packet, now)
                continue
            if key != last:
                last, take = key, received.setdefault(known[key], []).append
            take(packet[start:stop])

    def _receive_alike(self, packets: Sequence[memoryview]) -> bool:
        """Datagrams of one known flow and of one length over IPv4, as bulk comes. False: not all of them are."""
        try:
            if _ALIKE(packets[0]) != _ALIKE(packets[-1]):
                return False
            heads = list(map(_ALIKE, packets))
        except struct.error:  # too short for a datagram
            return False
        first, total, fragment, protocol, key, length = _V4(packets[0])
        flow, stop = self._by_key.get(key), length + 20
        if (
            first != 0x45
            or protocol != UDP
            or fragment & _FRAGMENT
            or flow is None
            or not 28 <= stop <= total <= min(map(len, packets))
            or heads.count(heads[0]) != len(heads)
        ):
            return False
        payload = slice(28, stop)
        self.received.setdefault(flow, []).extend([packet[payload] for packet in packets])
        return True

    def _sort(self, octets: memoryview, now: float) -> None:
        """What is not a plain datagram of a known flow."""
        try:
            self._place(parse_packet_untrusted(octets), now)
        except PacketRefused as refused:
            self.dropped[refused.why] += 1

    def _place(self, packet: Packet, now: float) -> None:
        """Find who takes a sound packet. PacketRefused: nobody."""
        host = self._host
        if not self._allowed(packet.source):
            raise PacketRefused("source not allowed")
        if packet.source in host.packed:
            raise PacketRefused("source is ours")
        if not is_unicast(packet.source) or packet.source in host.broadcasts:
            raise PacketRefused("source not unicast", section="RFC 1122 §3.2.1.3")
        if packet.destination in host.packed and not packet.fragment:
            if packet.protocol == UDP:
                if self._claimed(packet):
                    return
            elif packet.protocol == (ICMP if packet.version == 4 else ICMPV6) and self._message(packet, now):
                return
        if self._packet_flow is not None:
            self._receivable = packet.source
            self._deliver(self._packet_flow, packet.octets)
            return
        self._refuse(packet, now)

    def _deliver(self, flow: FlowId, octets: Buffer) -> None:
        self.received.setdefault(flow, []).append(octets)

    def _claimed(self, packet: Packet) -> bool:
        """A datagram for a flow or a listener. False: nobody's. PacketRefused: somebody's, but wrong."""
        octets = packet.payload
        if len(octets) < UDP_HEADER:
            return False
        flow = self._by_key.get(b"".join((packet.source, packet.destination, octets[:4])))
        local = packet.destination, int.from_bytes(octets[2:4], "big")
        if flow is None and not self._host.listens(*local):
            return False
        datagram = parse_datagram_untrusted(packet, verify=self._verify)
        if flow is None:
            if not datagram.source:
                raise PacketRefused("no source port")  # RFC 768: no reply is expected, so there is no flow
            if self._of_peer >= FLOWS_OF_A_PEER:
                raise PacketRefused("too many flows")
            flow = self._add((packet.source, datagram.source), local, claimed=False)
            self.opened.append(FlowOpened(flow, FlowKind.DATAGRAM, self._flows[flow].address))
        self._deliver(flow, datagram.payload)
        return True

    def _message(self, packet: Packet, now: float) -> bool:
        """An ICMP message for us. False: for the packet flow. PacketRefused: for nobody."""
        try:
            message = parse_icmp_untrusted(packet)
            if isinstance(message, Problem):
                self._report(message)
                return True
            if self._packet_flow is None:
                self._echo(packet, message, now)
        except PacketRefused:
            if self._packet_flow is None:
                raise
        return self._packet_flow is None

    def _echo(self, packet: Packet, echo: Echo, now: float) -> None:
        if not echo.request:
            raise PacketRefused("echo reply")
        if len(packet.octets) > self._host.mtu:
            raise PacketRefused("echo size")  # the peer's MTU may be larger than ours, and so would the reply be
        if not self._echoes.take(now):
            raise PacketRefused("echo limit")
        self.replies.append(build_echo_reply(packet, echo))

    def _report(self, problem: Problem) -> None:
        """An error about a packet of ours. PacketRefused if it quotes none of a flow that is open here."""
        remote = problem.destination, problem.destination_port
        number = self._by_key.get(_key(remote, (problem.source, problem.source_port)))
        if problem.protocol != UDP or number is None:
            raise PacketRefused("icmp of no flow")
        flow = self._flows[number]
        if problem.kind is Kind.OTHER:
            raise PacketRefused("icmp of no use")
        if problem.kind is not Kind.TOO_BIG:
            reason = Reason.REFUSED if problem.kind is Kind.PORT else Reason.UNREACHABLE
            where = f"{_text(remote[0])} port {remote[1]}"
            self.errors.append((number, ConnectionLost(f"{where}: {problem.kind.value}", reason=reason)))
        elif problem.length <= problem.mtu or (len(remote[0]) == 16 and problem.mtu < MIN_IPV6_MTU):
            raise PacketRefused(
                "icmp mtu", section="RFC 8201 §4"
            )  # it would have fitted; or no IPv6 link is that narrow
        else:
            fits = max(problem.mtu, MIN_IPV4_MTU) - flow.writer.overhead
            self.limits[number] = min(self.limits[number], fits)

    def _refuse(self, packet: Packet, now: float) -> None:
        """Say why nobody takes a packet, and tell its sender where it may want to know. Always raises PacketRefused."""
        host = self._host
        if is_multicast(packet.destination) or packet.destination in host.broadcasts:
            raise PacketRefused("destination not unicast")
        if packet.destination not in host.packed:
            raise PacketRefused("destination not ours")
        if packet.fragment:
            raise PacketRefused("fragment")
        if packet.protocol != UDP:
            extension = packet.version == 6 and packet.protocol in EXTENSION_HEADERS
            raise PacketRefused("extension header" if extension else "protocol")
        parse_datagram_untrusted(packet, verify=self._verify)
        if may_report(packet) and self._errors.take(now):
            self.replies.append(build_problem(packet, Kind.PORT))
        raise PacketRefused("no listener")


def _intact(packet: memoryview, start: int, stop: int) -> bool:
    """Whether the checksum of a datagram is right; its packet has no options, so that the addresses stand before it."""
    if start == _V6_SIZE:
        return not (word_sum(packet[8:stop]) + pseudo_sum(UDP, stop - 40)) % 0xFFFF
    if not (word_sum(packet[12:stop]) + pseudo_sum(UDP, stop - 20)) % 0xFFFF:
        return True
    return not packet[26] and not packet[27]  # the sender has left it out (RFC 768)
