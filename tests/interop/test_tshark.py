"""Wireshark's tshark reads what we sent, with our key log."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

import taps_security as taps
from tests.interop.ours import client, read_until, server
from tests.interop.peers import PATIENCE, PeerFailed, Program, require_program, start
from tests.support.pki import Pki

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("no_leaks")]


async def capturing(program: Program) -> None:
    """Wait until packets are captured; who may not capture skips, or fails where peers are required."""
    try:
        await program.expect(r"Capture started")
    except PeerFailed as error:
        if os.environ.get("TAPS_REQUIRE_PEERS") == "1":
            raise
        pytest.skip(f"tshark may not capture here (root may): {str(error)[-200:]}")


async def run_tshark(*arguments: str | Path) -> str:
    """What tshark prints about a file."""
    async with start("tshark", *arguments) as program:
        async with asyncio.timeout(PATIENCE):
            await program.process.wait()
        await program.read_all()
        assert program.process.returncode == 0, program.text
        return program.data.decode("utf-8", "replace")


async def converse(port: int, pki: Pki, key_log: taps.KeyLogFile) -> None:
    """A line under the first keys, and one under each end's next."""
    preconnection = client(port, pki)
    preconnection.key_log = key_log
    async with await preconnection.initiate() as connection:
        await connection.send(b"first sentence under lock and key\n")
        await read_until(connection, b"lock and key")
        await connection.update_keys()
        await connection.send(b"second sentence, with fresh keys\n")
        await read_until(connection, b"fresh keys")


async def test_tshark_decrypts_a_capture_with_our_key_log(pki: Pki, tmp_path: Path) -> None:
    require_program("tshark", "dumpcap")
    capture, secrets = tmp_path / "tls.pcapng", tmp_path / "keys.log"
    async with server(pki, pki.files(pki.leaf())) as ours:
        filtered = ("-i", "lo", "-f", f"tcp port {ours.port}", "-l", "-P", "-w", capture)
        async with start("tshark", *filtered) as program:
            await capturing(program)
            with taps.KeyLogFile(secrets) as key_log:
                await converse(ours.port, pki, key_log)
            await program.expect(r"FIN.*\n(.*\n)*?.*FIN")  # both directions are over
            program.process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                await program.process.wait()
    labels = {line.split()[0] for line in secrets.read_text().splitlines()}
    assert {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    } <= labels
    known = ("-r", capture, "-o", f"tls.keylog_file:{secrets}", "-d", f"tcp.port=={ours.port},tls")
    text = await run_tshark(*known, "-q", "-z", "follow,tls,ascii,0")
    assert text.count("first sentence under lock and key") == 2, text
    assert text.count("second sentence, with fresh keys") == 2, text
    handshake = await run_tshark(*known, "-Y", "tls.handshake", "-T", "fields", "-e", "tls.handshake.type")
    types = {number for line in handshake.split() for number in line.split(",")}
    assert {"1", "2", "8", "11", "15", "20"} <= types, handshake
