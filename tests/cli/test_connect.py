"""`taps connect` as a process: netcat's manners, credentials, and every kind of failure in one line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from base64 import b64encode
from pathlib import Path

import pytest

import taps_security as taps
from taps_security.crypto.certificates import fingerprint
from tests.cli.processes import PATIENCE, TAPS, exchange, identity, one_line, run, running, serving, trusting
from tests.support.pki import Pki

KEY = b64encode(bytes(range(32))).decode()


def report(error: bytes) -> dict[str, object]:
    """The security report, which is the last line on standard error."""
    words: dict[str, object] = json.loads(error.decode().splitlines()[-1])
    return words


# ------------------------------------------------------------------------------------------------------------ netcat
def test_it_is_binary_safe_from_a_pipe_and_from_a_file(pki: Pki, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(data)
    with serving(*identity(pki)) as server:
        ran = run("connect", server.place, *trusting(pki), data=data)
        assert (ran.returncode, ran.stderr) == (0, b"")
        assert ran.stdout == data
        with source.open("rb") as stdin, target.open("wb") as stdout:
            words = [*TAPS, "connect", server.place, *map(str, trusting(pki)), "--loop", "asyncio"]
            subprocess.run(words, stdin=stdin, stdout=stdout, timeout=PATIENCE, check=True)
        assert target.read_bytes() == data


async def test_what_comes_after_our_end_is_written(pki: Pki) -> None:
    """Half close: the server answers long after our end."""

    async def answer(connection: taps.Connection) -> None:
        question = b"".join([bytes(message) async for message in connection])
        await asyncio.sleep(0.2)
        await connection.send(b"an answer to " + question, final=True)

    files = pki.files(pki.leaf())
    listener = await taps.Preconnection(
        local_endpoints=[taps.LocalEndpoint(ip_address="127.0.0.1", port=0)],
        security_parameters=taps.SecurityParameters(identity=taps.Identity.file(files.certificate, files.key)),
    ).listen()
    serving_all = asyncio.ensure_future(listener.serve(answer))
    ran = await asyncio.to_thread(run, "connect", f"127.0.0.1:{listener.port}", *trusting(pki), data=b"question")
    listener.stop()
    await serving_all
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"an answer to question", b"")


def test_wait_bounds_the_wait_for_the_peers_end(pki: Pki) -> None:
    with serving(*identity(pki), "--app", "cat") as server:
        began = time.monotonic()
        ran = run("connect", server.place, *trusting(pki), "--wait", "0.1", data=b"x")
        assert (ran.returncode, ran.stderr) == (0, b"")
        assert time.monotonic() - began < 10


def test_the_peers_end_ends_it_though_input_is_open(pki: Pki) -> None:
    with serving(*identity(pki), "--app", "cat") as server, running("connect", server.place, *trusting(pki)) as client:
        server.process.stdin.write(b"all there is")
        server.process.stdin.close()
        server.process.stdin = None
        assert client.stdout.read() == b"all there is"
        assert client.wait(PATIENCE) == 0


def test_a_reader_that_goes_away(pki: Pki) -> None:
    with (
        serving(*identity(pki), "--app", "chargen") as server,
        running("connect", server.place, *trusting(pki)) as client,
    ):
        assert client.stdout.read(10)
        client.stdout.close()
        assert client.wait(PATIENCE) == 1
        assert "standard output was closed" in one_line(client.stderr.read())
        client.stdout = None


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_interrupt_ends_it_cleanly(pki: Pki, loop: str) -> None:
    with serving(*identity(pki)) as server, running("connect", server.place, *trusting(pki), "--loop", loop) as client:
        exchange(client, b"x")
        client.send_signal(signal.SIGINT)
        assert client.wait(PATIENCE) == 130
        assert client.communicate() == (b"", b"")


# ----------------------------------------------------------------------------------------------------------- options
def test_the_report_and_key_updates(pki: Pki) -> None:
    with serving(*identity(pki)) as server:
        options = ("--message-mode", "lines", "--update-keys-every", 1, "--json", "--alpn", "x")
        ran = run("connect", server.place, *trusting(pki), *options, data=b"1\n2\n3")
    assert (ran.returncode, ran.stdout) == (0, b"1\n2\n3")
    told = report(ran.stderr)
    assert list(told) == [
        *("stack", "version", "algorithms", "peer", "provides", "keys", "resumed", "early_data", "alpn"),
    ]
    keys = told["keys"]
    assert isinstance(keys, list)
    generations = {key["generation"] for key in keys if key["event"] == "ready" and key["direction"] == "send"}
    assert generations == {0, 1, 2}


def test_sessions_in_a_file_are_resumed(pki: Pki, tmp_path: Path) -> None:
    with serving(*identity(pki)) as server:
        words = ("connect", server.place, *trusting(pki), "--json", "--session-file", tmp_path / "sessions")
        resumed = [report(run(*words, data=b"x").stderr)["resumed"] for _ in range(2)]
    assert resumed == [False, True]


def test_explain_and_keylog(pki: Pki, tmp_path: Path) -> None:
    with serving(*identity(pki)) as server:
        log = ("--keylog", tmp_path / "keys")
        ran = run("connect", server.place, *trusting(pki), *log, "--explain", "--json")
        assert ran.returncode == 0
        first = json.loads(ran.stderr.splitlines()[0])
        assert first["candidates"][0]["kept"]
        ran = run("connect", server.place, *trusting(pki), "--explain", "--prefer", "key_update")
        assert b"ranked up: provides key_update" in ran.stderr
    labels = {line.split()[0] for line in (tmp_path / "keys").read_text().splitlines()}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels


def test_mutual_authentication_by_a_profile(pki: Pki, tmp_path: Path) -> None:
    client = pki.files(pki.client())
    profile = tmp_path / "p.toml"
    with serving(*identity(pki), *trusting(pki), "--require-client-auth", "--alpn", "echo/1") as server:
        profile.write_text(
            f'[local]\nidentity = "{client.certificate}"\nkey = "{client.key}"\n'
            f'[remote]\nhost = "127.0.0.1"\nport = {server.port}\nserver_name = "server.example"\n'
            f'trust = "{pki.trust_file}"\n[security]\nalpn = ["echo/1"]\nrequire = ["mutual_authentication"]\n'
        )
        ran = run("connect", "--profile", profile, "--json", data=b"me")
        assert (ran.returncode, ran.stdout) == (0, b"me")
        assert report(ran.stderr)["alpn"] == "echo/1"
        without = run("connect", server.place, *trusting(pki), data=b"me")
        assert without.returncode == 1
        assert "certificate" in one_line(without.stderr)


def test_pre_shared_key_and_pin(pki: Pki) -> None:
    with serving("--psk", f"me:{KEY}") as server:
        assert run("connect", server.place, "--psk", f"me:{KEY}", data=b"x").stdout == b"x"
        refused = run("connect", server.place, "--psk", f"you:{KEY}")
        assert refused.returncode == 1
        one_line(refused.stderr)
    with serving(*identity(pki, "untrusted")) as server:
        pin = fingerprint(pki.untrusted.chain[0]).hex()
        assert run("connect", server.place, "--pin", f"sha256:{pin}", data=b"x").stdout == b"x"


# ------------------------------------------------------------------------------------------------------------ errors
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("expired", ["expired"]),
        ("wrong_name", ["elsewhere.example", "127.0.0.1"]),
        ("untrusted", ["no trust anchor"]),
    ],
)
def test_a_refused_certificate(pki: Pki, name: str, words: list[str]) -> None:
    with serving(*identity(pki, name)) as server:
        ran = run("connect", server.place, *trusting(pki))
        assert ran.returncode == 1
        line = one_line(ran.stderr)
        for word in (*words, server.place, "tls/1.3"):
            assert word in line


def test_nobody_listens(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ran = run("connect", f"127.0.0.1:{port}", *trusting(pki))
    assert ran.returncode == 1
    assert "refused" in one_line(ran.stderr)


def test_a_silent_peer(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        ran = run("connect", place, *trusting(pki), "--timeout", "0.3")
    assert ran.returncode == 1
    assert "0.3 s" in one_line(ran.stderr)


def test_a_peer_that_vanishes(pki: Pki) -> None:
    with serving(*identity(pki)) as server, running("connect", server.place, *trusting(pki)) as client:
        exchange(client, b"x")
        server.process.kill()
        assert client.wait(PATIENCE) == 1
        one_line(client.stderr.read())


def test_verbose_shows_where(pki: Pki) -> None:
    ran = run("connect", "127.0.0.1:1", *trusting(pki), "--verbose")
    assert ran.returncode == 1
    assert b"Traceback" in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith(b"taps: ")
