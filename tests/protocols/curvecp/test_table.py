"""The table [curvecp] of a profile, and what a command line says apart from it."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from taps_security.properties.security import Role, SecurityParameters
from taps_security.protocols.curvecp.descriptor import DESCRIPTOR, credentials, named
from taps_security.protocols.curvecp.names import key_label
from taps_security.protocols.curvecp.options import ClientPolicy, Congestion, CurveCpOptions
from taps_security.protocols.curvecp.table import from_table, overridden
from taps_security.protocols.registry import Overrides
from taps_security.stack.errors import ConfigurationError

SECRET, OTHER = bytes(range(32)), bytes(range(32, 64))
CLIENT = b64encode(OTHER).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "keys/.expertsonly").mkdir(parents=True)
    (tmp_path / "keys/.expertsonly/secretkey").write_bytes(SECRET)
    return tmp_path / "keys"


def test_a_whole_table(folder: Path) -> None:
    table = {
        "key": str(folder),
        "known_clients": [CLIENT, OTHER[::-1].hex()],
        "server_name": "server.example",
        "extension": "00112233445566778899aabbccddeeff",
        "client_policy": "known",
        "server_extension": "ff" * 16,
        "congestion": "chicago",
        "idle_timeout": 30,
        "keep_alive": 5.5,
    }
    found = from_table(table, None)
    assert found == CurveCpOptions(
        key=SECRET,
        known_clients=[OTHER, OTHER[::-1]],
        server_name="server.example",
        extension=bytes.fromhex("00112233445566778899aabbccddeeff"),
        client_policy=ClientPolicy.KNOWN,
        server_extension=b"\xff" * 16,
        congestion=Congestion.CHICAGO,
        idle_timeout=30,
        keep_alive=5.5,
    )


def test_the_key_of_the_table_or_the_one_that_stands_apart(folder: Path) -> None:
    assert from_table({}, OTHER).key == OTHER
    assert from_table({"key": str(folder)}, OTHER).key == SECRET
    assert from_table({}, None).key is None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"name": "x"}, "name: an unknown key was given, expected one of 'key'"),
        ({"sever_name": "x"}, "sever_name: .*; did you mean 'server_name'"),
        ({"server_key": CLIENT}, "server_key: an unknown key was given"),
        ({"key": 3}, "key: 3 was given"),
        ({"key": ""}, "key: '' was given"),
        ({"known_clients": CLIENT}, "known_clients: .* expected a list of public keys"),
        ({"known_clients": [3]}, r"known_clients: \[3\] was given"),
        ({"known_clients": ["AA=="]}, "known_clients: 'AA==' was given, expected a public key"),
        ({"server_name": "x" * 64}, "server_name: .* labels of at most 63 octets"),
        ({"extension": "00"}, "extension: '00' was given|extension: 1 octets was given"),
        ({"extension": "xy"}, "extension: 'xy' was given, expected 16 octets"),
        ({"client_policy": "some"}, "client_policy: 'some' was given, expected 'any' or 'known'"),
        ({"client_policy": "any", "known_clients": [CLIENT]}, "client_policy: 'any' was given, expected 'known'"),
        ({"congestion": "reno"}, "congestion: 'reno' was given"),
        ({"idle_timeout": 0}, "idle_timeout: 0 was given"),
    ],
)
def test_what_is_wrong_begins_with_the_key(table: dict[str, Any], said: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"^{said}" if not said.startswith("did") else said.replace("?", r"\?")
    ):
        from_table(table, None)


def test_a_secret_that_is_taken_for_a_folder_is_not_shown() -> None:
    secret = b64encode(SECRET).decode()[:-2]
    with pytest.raises(ConfigurationError, match=r"^key: cannot read \.expertsonly/secretkey: No such file") as caught:
        from_table({"key": secret}, None)
    assert secret not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"^key: ") as caught:
        from_table({"key": "a\0b"}, None)


def test_a_folder_with_another_key(folder: Path) -> None:
    (folder / ".expertsonly/secretkey").write_bytes(SECRET[:31])
    with pytest.raises(ConfigurationError, match=r"^key: .* has 31 octets and not 32"):
        from_table({"key": str(folder)}, None)


def test_what_is_given_apart_takes_its_place() -> None:
    found = overridden(None, Overrides(SECRET, CLIENT, "server.example"))
    assert found == CurveCpOptions(key=SECRET, server_key=OTHER, server_name="server.example")
    before = CurveCpOptions(key=SECRET, server_name="old.example", known_clients=[OTHER], congestion="chicago")
    after = overridden(before, Overrides(peer_key=OTHER.hex(), server_name="new.example"))
    assert (after.key, after.server_key, after.server_name) == (SECRET, OTHER, "new.example")
    assert (after.known_clients, after.congestion) == (before.known_clients, before.congestion)
    assert overridden(before, Overrides()) == before
    with pytest.raises(ConfigurationError, match="server_key: 'nothing' was given, expected a public key"):
        overridden(None, Overrides(peer_key="nothing"))


# -------------------------------------------------------------------------------------------- what the descriptor says
def test_a_client_needs_the_servers_key_or_a_name_that_holds_it() -> None:
    label = f"{key_label(OTHER)}.server.example"
    assert named(label)
    assert not named("server.example")

    def missing(**security: Any) -> str | None:
        return credentials(SecurityParameters(**security), Role.CLIENT)

    assert missing() is not None
    assert missing(options={"curvecp": CurveCpOptions(key=SECRET)}) is not None
    assert missing(options={"curvecp": CurveCpOptions(server_key=OTHER)}) is None
    assert missing(server_name=label) is None


def test_a_server_needs_a_key_of_its_own() -> None:
    ours = {"curvecp": CurveCpOptions(key=SECRET)}
    assert credentials(SecurityParameters(options=ours), Role.SERVER) is None
    assert credentials(SecurityParameters(), Role.SERVER) is not None


def test_what_the_command_relies_on() -> None:
    assert DESCRIPTOR.paths == {"key"}
    assert DESCRIPTOR.named is named
    assert all(claim for claim in DESCRIPTOR.claims)  # a port may be shared
