"""A tunnel written down: the file format of wg(8) and wg-quick(8), and the table of a profile.

    [Interface]                             [Peer], once for each
    PrivateKey = BASE64                     PublicKey = BASE64
    Address = 10.88.0.1/24, fd00::1/64      PresharedKey = BASE64
    ListenPort = 51820                      Endpoint = HOST:PORT or [ADDRESS]:PORT
    MTU = 1420                              AllowedIPs = 10.88.0.2/32, fd00::2/128
                                            PersistentKeepalive = 25, or off

Address and AllowedIPs may stand in several lines. Names of tables and keys do not depend on case; `#` begins a comment.
What changes the host around a tunnel is not honoured: DNS, Table, FwMark, PreUp, PostUp, PreDown, PostDown, SaveConfig.
Errors never show a value that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ...properties.words import closest, listed, refuse, text
from ...stack.errors import ConfigurationError
from .options import DEFAULT_MTU, WireGuardOptions, WireGuardPeer, key_text, static_key

__all__ = ["Written", "from_table", "read", "write"]

_LINE = re.compile(r"([A-Za-z]{1,20})\s*=\s*(.*)")
_NAME = re.compile(r"wireguard(?:\.peers\[(?P<peer>[^\]]*)\])?\.(?P<field>\w+)")
_MAY_BE_A_KEY = re.compile(r"[A-Za-z0-9+/]{20}")  # or a good part of one: 32 octets are 43 such letters
_ANY_KEY = bytes(32)


class Written(NamedTuple):
    """What a file says. `not_honoured`: keys of wg-quick that it has and that mean nothing here, each once."""

    options: WireGuardOptions
    not_honoured: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------------- values
def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 5):
        refuse("", value, "a whole number from 0 to 65535")
    return int(value)


def _keepalive(value: str) -> int:
    if value.lower() == "off":
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 5):
        refuse("", value, "seconds from 1 to 65535, or 'off'")
    return int(value)


class _Key(NamedTuple):
    """A key of a table: the field that it fills, what its text means, and whether it may come again."""

    field: str
    meaning: Callable[[str], Any]
    repeats: bool = False


def _list(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


_INTERFACE = {
    "PrivateKey": _Key("private_key", static_key),
    "Address": _Key("addresses", _list, repeats=True),
    "ListenPort": _Key("listen_port", _number),
    "MTU": _Key("mtu", _number),
}
_PEER = {
    "PublicKey": _Key("public_key", static_key),
    "PresharedKey": _Key("preshared_key", static_key),
    "Endpoint": _Key("endpoint", str),
    "AllowedIPs": _Key("allowed_ips", _list, repeats=True),
    "PersistentKeepalive": _Key("persistent_keepalive", _keepalive),
}
_TABLES = {"Interface": _INTERFACE, "Peer": _PEER}
_NOT_HONOURED = ("DNS", "Table", "FwMark", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig")


def _known(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` means, in its usual spelling."""
    return next((name for name in names if name.lower() == word.lower()), None)


# ------------------------------------------------------------------------------------------------------------- reading
class _Table:
    """One table of the file: values by field, and where they stand."""

    def __init__(self, name: str, line: int) -> None:
        self.name = name
        self.values: dict[str, Any] = {}
        self.lines = {"": line}  # of the table itself, and of each field

    def error(self, field: str, what: str) -> ConfigurationError:
        """What is wrong with a field, and where."""
        key = next((key for key, known in _TABLES[self.name].items() if known.field == field), "")
        line = self.lines.get(field, self.lines[""])
        return ConfigurationError(f"line {line}: [{self.name}]{f' {key}' if key else ''}: {what}")


def read(source: str, private_key: bytes | None = None) -> Written:
    """Parse a file. `private_key`: in place of the file's, which may then have none.

    ConfigurationError names the line, the table, the key and what was expected.
    """
    interface: _Table | None = None
    table: _Table | None = None
    peers: list[_Table] = []
    not_honoured: dict[str, None] = {}
    for number, line in _lines(source):
        if line.startswith("["):
            name = _header(number, line)
            if name == "Peer":
                table = _Table(name, number)
                peers.append(table)
            else:
                table = interface = interface or _Table(name, number)
            continue
        if table is None:
            raise ConfigurationError(f"line {number}: something stands before the first table, expected [Interface]")
        ignored = _entry(table, number, line)
        if ignored is not None:
            not_honoured[ignored] = None
    if interface is None:
        raise ConfigurationError("[Interface]: there is no such table, expected one with our PrivateKey and Address")
    return Written(_assemble(interface, peers, private_key), tuple(not_honoured))


def _lines(source: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers."""
    for number, line in enumerate(source.removeprefix("\ufeff").split("\n"), 1):
        said = line.partition("#")[0].strip()
        if said:
            yield number, said


def _header(number: int, line: str) -> str:
    name = _known(line[1:-1].strip(), _TABLES) if line.endswith("]") else None
    if name is None:
        raise ConfigurationError(f"line {number}: an unknown table was given, expected [Interface] or [Peer]")
    return name


def _entry(table: _Table, number: int, line: str) -> str | None:
    """Take one line into its table; the name of a key that is not honoured, else None."""
    where = f"line {number}: [{table.name}]"
    found = _LINE.fullmatch(line)
    word, value = found.groups() if found is not None else ("", "")
    keys = _TABLES[table.name]
    name = _known(word, keys)
    if name is None and not value.strip("="):  # not shown: it may be a secret that slipped into a line of its own
        raise ConfigurationError(f"{where}: this line is no entry, expected KEY = VALUE")
    if name is None:
        ignored = _known(word, _NOT_HONOURED) if keys is _INTERFACE else None
        if ignored is not None:
            return ignored
        raise ConfigurationError(f"{where} {word}: an unknown key was given, {_expected(word, table.name)}")
    key = keys[name]
    try:
        meaning = key.meaning(value)
        _check(table.name, key.field, meaning)
    except ConfigurationError as error:
        what = error.message.partition(": ")[2]
        if _MAY_BE_A_KEY.search(value):
            what = f"the value, not shown here, is wrong: expected {what.rpartition('expected ')[2]}"
        raise ConfigurationError(f"{where} {name}: {what}") from None
    if key.repeats:
        table.values.setdefault(key.field, []).extend(meaning)
    elif key.field in table.values:
        raise ConfigurationError(f"{where} {name}: it was given in line {table.lines[key.field]} too, expected once")
    else:
        table.values[key.field] = meaning
    table.lines[key.field] = number
    return None


def _expected(word: str, table: str) -> str:
    keys = _TABLES[table]
    other = next((name for name in _TABLES if name != table and _known(word, _TABLES[name])), None)
    if other is not None:
        return f"expected it in [{other}]"
    return f"expected one of {listed(keys)}{closest(word, keys)}"


def _check(table: str, field: str, value: object) -> None:
    """Whether one value can be: beside defaults. What does not fit beside the others is found at the end."""
    if table == "Peer":
        WireGuardPeer(**{"public_key": _ANY_KEY, field: value})  # type: ignore[arg-type]
    elif field != "private_key":
        WireGuardOptions(**{"private_key": _ANY_KEY, field: value})  # type: ignore[arg-type]


def _assemble(interface: _Table, tables: list[_Table], private_key: bytes | None) -> WireGuardOptions:
    private = interface.values.get("private_key") if private_key is None else private_key
    if private is None:
        raise interface.error("private_key", "it is missing, expected base64 as `wg genkey` writes it")
    by_name: dict[str, _Table] = {}
    peers = []
    for table in tables:
        if "public_key" not in table.values:
            raise table.error("public_key", "it is missing, expected the peer's, as `wg pubkey` writes it")
        peer = WireGuardPeer(**table.values)
        if peer.public_key == private:  # a mistake that would show our key to whoever reads the error
            raise table.error("public_key", "it is our private key, expected the peer's public key")
        by_name[peer.name] = table  # of two with one key, the second is to blame
        peers.append(peer)
    try:
        return WireGuardOptions(**{**interface.values, "private_key": private, "peers": peers})
    except ConfigurationError as error:
        place, _, what = error.message.partition(": ")
        found = _NAME.fullmatch(place)
        assert found is not None, place
        raise by_name.get(found["peer"] or "", interface).error(found["field"], what) from None


# ------------------------------------------------------------------------------------------------------------- writing
def write(options: WireGuardOptions) -> str:
    """The file that `read` turns into the same options. It has the private key in it."""
    blocks = [_block("Interface", _INTERFACE, options)]
    blocks += [_block("Peer", _PEER, peer) for peer in options.peers]
    return "\n".join(blocks)


def _block(name: str, keys: Mapping[str, _Key], holder: object) -> str:
    lines = [f"[{name}]"]
    for key, known in keys.items():
        value = _text_of(known.field, holder)
        if value:
            lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n"


def _text_of(field: str, holder: Any) -> str:
    """A field as the file has it; empty: it is left out."""
    value = getattr(holder, field)
    if isinstance(value, bytes):
        return key_text(value)
    if field == "endpoint":
        return holder.endpoint_text or ""
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value) if value and (field, value) != ("mtu", DEFAULT_MTU) else ""


# ------------------------------------------------------------------------------------------------- the profile's table
_TABLE_KEYS = ("address", "listen_port", "mtu", "peers")
_PEER_KEYS = ("public_key", "preshared_key", "endpoint", "allowed_ips", "persistent_keepalive")


def from_table(table: Mapping[str, Any], private_key: bytes | None = None) -> WireGuardOptions:
    """Options from the table [wireguard] of a profile; the private key stands apart.

    `address`: one, or a list. `listen_port`. `mtu`. `peers`: a list of tables with `public_key`, `preshared_key`,
    `endpoint`, `allowed_ips` and `persistent_keepalive`. ConfigurationError begins with the key.
    """
    _check_keys("", table, _TABLE_KEYS)
    if private_key is None:
        raise ConfigurationError("the private key is missing, expected static_key in [local], or --static-key")
    given = table.get("peers", [])
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise ConfigurationError("peers: expected a list of tables, like [{ public_key = ..., allowed_ips = [...] }]")
    peers = [_peer(f"peers[{number}]", one, private_key) for number, one in enumerate(given)]
    rest = {key: value for key, value in table.items() if key not in {"address", "peers"}}
    try:
        return WireGuardOptions(private_key=private_key, addresses=table.get("address", ()), peers=peers, **rest)
    except ConfigurationError as error:
        raise ConfigurationError(error.message.removeprefix("wireguard.").replace("addresses:", "address:")) from None


def _peer(name: str, table: Mapping[str, Any], private_key: bytes) -> WireGuardPeer:
    _check_keys(f"{name}.", table, _PEER_KEYS)
    if "public_key" not in table:
        raise ConfigurationError(f"{name}.public_key: it is missing, expected base64 as `wg pubkey` writes it")
    values = dict(table)
    for key in ("public_key", "preshared_key"):
        if key in values:
            values[key] = static_key(text(f"{name}.{key}", values[key]), f"{name}.{key}")
    if values["public_key"] == private_key:
        raise ConfigurationError(f"{name}.public_key: it is our private key, expected the peer's public key")
    try:
        return WireGuardPeer(**values)
    except ConfigurationError as error:
        place, _, what = error.message.partition(": ")
        raise ConfigurationError(f"{name}.{place.rpartition('.')[2]}: {what}") from None


def _check_keys(prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            hint = closest(key, known)
            raise ConfigurationError(f"{prefix}{key}: an unknown key was given, expected one of {listed(known)}{hint}")
