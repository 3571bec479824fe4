"""`taps serve` as a process: the ready line, the ends, the errors."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from taps_security.cli.serve import alive, place
from tests.cli.processes import PATIENCE, exchange, identity, one_line, run, running, serving, trusting
from tests.support.pki import Pki


def test_the_ready_line_tells_the_real_port(pki: Pki) -> None:
    with serving(*identity(pki)) as server:
        assert server.stack == "tls"
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", server.place)
        again = run("serve", server.place, *identity(pki))
        assert again.returncode == 1
        line = one_line(again.stderr)
        assert f"{server.place} is in use" in line
        assert "choose another port" in line


def test_every_address_of_this_machine(pki: Pki) -> None:
    with serving(*identity(pki), "--app", "discard", where=":0") as server:
        assert server.place.startswith("0.0.0.0:")
        assert run("connect", f"127.0.0.1:{server.port}", *trusting(pki), data=b"x").returncode == 0


def test_once(pki: Pki) -> None:
    with serving(*identity(pki), "--once", "--stack", "tls/1.3") as server:
        assert run("connect", server.place, *trusting(pki), data=b"x").stdout == b"x"
        assert server.end() == (0, b"", b"")


def test_once_tells_a_lost_connection(pki: Pki) -> None:
    with serving(*identity(pki), "--once") as server, running("connect", server.place, *trusting(pki)) as client:
        exchange(client, b"x")
        client.kill()
        status, _, error = server.end()
        assert status == 1
        assert b"127.0.0.1" in error


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_at_sigterm_connections_may_finish(pki: Pki, loop: str) -> None:
    with (
        serving(*identity(pki), "--loop", loop, "--grace", 20) as server,
        running("connect", server.place, *trusting(pki)) as client,
    ):
        exchange(client, b"x")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        refused = run("connect", server.place, *trusting(pki))
        assert refused.returncode == 1
        assert client.communicate(b"last words", timeout=PATIENCE) == (b"last words", b"")
        assert server.end() == (0, b"", b"")


def test_grace_is_bounded(pki: Pki) -> None:
    with serving(*identity(pki), "--grace", 0.1) as server, running("connect", server.place, *trusting(pki)) as client:
        exchange(client, b"x")
        began = time.monotonic()
        assert server.stop(signal.SIGTERM)[0] == 0
        assert time.monotonic() - began < 10
        assert client.wait(PATIENCE) == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_interrupt_ends_it_cleanly(pki: Pki, loop: str) -> None:
    with serving(*identity(pki), "--loop", loop) as server, running("connect", server.place, *trusting(pki)) as client:
        exchange(client, b"x")
        assert server.stop(signal.SIGINT) == (130, b"", b"")


def test_verbose_tells_who_comes_and_goes(pki: Pki) -> None:
    with serving(*identity(pki), "--verbose", "--once") as server:
        run("connect", server.place, *trusting(pki))
        lines = server.end()[2].decode().splitlines()
        assert [line.split(maxsplit=2)[2] for line in lines] == ["is here", "is gone"]


def test_credentials_that_do_not_fit(pki: Pki, tmp_path: Path) -> None:
    leaf, other = pki.files(pki.leaf()), pki.files(pki.client())
    ran = run("serve", "127.0.0.1:0", "--identity", leaf.certificate, "--key", other.key)
    assert ran.returncode == 2
    assert "not that of the first certificate" in one_line(ran.stderr)
    missing = run("serve", "127.0.0.1:0", "--identity", leaf.certificate, "--key", tmp_path / "key.pem")
    assert missing.returncode == 2
    assert "key.pem" in one_line(missing.stderr)
    nobody = run("serve", "127.0.0.1:0", *identity(pki), "--require-client-auth")
    assert nobody.returncode == 2
    assert "trust" in one_line(nobody.stderr)


def test_keys_in_use() -> None:
    def record(event: str, generation: int, direction: str | None, at: float) -> dict[str, Any]:
        words = {"event": event, "stage": "application", "generation": generation, "direction": direction}
        return {**words, "time": at, "limits": []}

    records = [
        record("ready", 0, "send", 1.0),
        record("confirmed", 0, None, 2.0),
        record("ready", 1, "send", 3.0),
        record("discarded", 0, "send", 3.0),
    ]
    (key,) = alive(records, 10.0)
    assert (key["generation"], key["direction"], key["age"]) == (1, "send", 7.0)


def test_place() -> None:
    assert place(("127.0.0.1", 1)) == "127.0.0.1:1"
    assert place(("::1", 1)) == "[::1]:1"
    assert place(None) == ""
