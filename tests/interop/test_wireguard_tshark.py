"""Wireshark's tshark opens a capture of a session with wireguard-go, with our key log."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.interop.namespaces import Network
from tests.interop.peers import PATIENCE, require_program, start
from tests.interop.test_tshark import run_tshark
from tests.interop.test_wireguard import begun, both_roles
from tests.interop.tunnels import ECHO, PORT, in_namespace, tunnel, until

SIZES = (40, 57, 1_200)
DATA = b"\x04\0\0\0"  # how a message with data begins


@pytest.mark.parametrize("psk", [False, True], ids=["without_psk", "with_psk"])
@both_roles
async def test_tshark_decrypts_with_our_key_log(net: Network, tmp_path: Path, role: str, psk: bool) -> None:
    require_program("tshark", "dumpcap")
    capture = tmp_path / "wireguard.pcapng"
    async with tunnel(net, tmp_path, role, psk=psk) as made:
        words = ("dumpcap", "-i", made.their_interface, "-f", f"udp port {PORT}", "-w", str(capture))
        async with start(*in_namespace(made.their_space, *words)) as program:
            await program.expect(r"^File: ")
            number = await begun(made, role)
            for size in SIZES:
                await made.ours.swap(connection=number, count=1, size=size, window=1)
            await until(lambda: capture.read_bytes().count(DATA) >= 2 * len(SIZES))  # written, there and back
            program.process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                await program.process.wait()
    known = ("-r", capture, "-o", f"wg.keylog_file:{tmp_path / 'keys.log'}", "-d", f"udp.port=={PORT},wg")
    types = (await run_tshark(*known, "-T", "fields", "-e", "wg.type")).split()
    assert types[:2] == ["1", "2"]
    inner = f"wg.type == 4 && udp.port == {ECHO}"
    rows = await run_tshark(*known, "-Y", inner, "-T", "fields", "-e", "udp.srcport", "-e", "udp.length")
    pairs = [tuple(line.split("\t")) for line in rows.splitlines()]
    seen = [(sources.split(",")[-1] == str(ECHO), int(lengths.split(",")[-1]) - 8) for sources, lengths in pairs]
    for size in SIZES:
        assert (False, size) in seen, rows  # ours
        assert (True, size) in seen, rows  # the echo
