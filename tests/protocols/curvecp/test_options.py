"""What the owner of an end says, checked."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

import pytest

from taps_security.protocols.curvecp.keys import KeyPair
from taps_security.protocols.curvecp.names import key_label
from taps_security.protocols.curvecp.options import ClientPolicy, Congestion, CurveCpOptions, read_key_folder
from taps_security.stack.errors import ConfigurationError

PAIR = KeyPair.generate(os.urandom)


def test_keys_in_each_form(tmp_path: Path) -> None:
    (tmp_path / ".expertsonly").mkdir()
    (tmp_path / ".expertsonly" / "secretkey").write_bytes(PAIR.secret)
    for key in (PAIR.secret, PAIR.secret.hex(), b64encode(PAIR.secret).decode(), tmp_path, str(tmp_path)):
        options = CurveCpOptions(key=key)
        assert options.key == PAIR.secret
        assert PAIR.secret.hex() not in repr(options)
        assert repr(PAIR.secret) not in repr(options)
    public = PAIR.public
    for server_key in (public, public.hex(), b64encode(public).decode(), f"{key_label(public)}.example.org"):
        assert CurveCpOptions(server_key=server_key).server_key == public
    assert CurveCpOptions(known_clients=[public.hex()]).known_clients == {public}


def test_what_is_implied() -> None:
    options = CurveCpOptions()
    assert options.key is options.server_key is options.server_name is options.keep_alive is None
    assert options.extension == options.server_extension == bytes(16)
    assert options.client_policy is ClientPolicy.ANY
    assert options.congestion is Congestion.CUBIC
    assert CurveCpOptions(known_clients=[PAIR.public]).client_policy is ClientPolicy.KNOWN
    assert CurveCpOptions(client_policy="known").known_clients == frozenset()
    assert CurveCpOptions(extension="00" * 15 + "ff").extension[-1] == 255
    assert CurveCpOptions(congestion="chicago").congestion is Congestion.CHICAGO


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"key": b"short"}, "key"),
        ({"key": 5}, "key"),
        ({"key": "no/such/folder"}, "key folder"),
        ({"server_key": "uz5"}, "server_key"),
        ({"server_key": b"x" * 31}, "server_key"),
        ({"known_clients": [b"x"]}, "known_clients"),
        ({"extension": b"x"}, "extension"),
        ({"server_extension": "zz"}, "server_extension"),
        ({"client_policy": "some"}, "client_policy"),
        ({"client_policy": "any", "known_clients": [PAIR.public]}, "client_policy"),
        ({"congestion": "bbr"}, "congestion"),
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"idle_timeout": None}, "idle_timeout"),
        ({"keep_alive": -1}, "keep_alive"),
        ({"server_name": "a" * 64}, "server name"),
        ({"server_name": ""}, "server_name"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        CurveCpOptions(**wrong)


def test_secrets_show_in_no_error() -> None:
    for key in (PAIR.secret + b"x", PAIR.secret[:31]):
        with pytest.raises(ConfigurationError) as error:
            CurveCpOptions(key=key)
        assert repr(key)[2:-1] not in str(error.value)


def test_a_folder_with_a_short_key(tmp_path: Path) -> None:
    (tmp_path / ".expertsonly").mkdir()
    (tmp_path / ".expertsonly" / "secretkey").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="has 5 octets"):
        read_key_folder(tmp_path)
