"""OpenSSL's and GnuTLS's command-line programs as peers."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.interop.peers import (
    EXPORT_LABEL,
    EXPORT_LENGTH,
    HOST,
    PSK_IDENTITY,
    Facts,
    PeerFailed,
    Program,
    Wish,
    free_port,
    pump,
    require_program,
    start,
)


class ProgramRunning:
    """What OpenSSL's and GnuTLS's programs have in common: they write what they find out, and what they receive."""

    echoes = False
    done: str  # the handshake is over
    failed: str  # it failed
    resumed: str
    alpn: str
    exported: str
    group: str

    def __init__(self, program: Program, port: int = 0) -> None:
        self.program = program
        self.port = port
        self.since = 0  # where the output of the newest connection begins

    async def facts(self) -> Facts:
        match = await self.program.expect(f"(?:{self.done})|(?P<failed>{self.failed})", self.since)
        if match["failed"]:
            raise PeerFailed(self.program.text[self.since :])
        text = self.program.text[self.since :]
        self.since = match.end()
        alpn, exported, group = (re.search(pattern, text) for pattern in (self.alpn, self.exported, self.group))
        return Facts(
            resumed=re.search(self.resumed, text) is not None,
            alpn=alpn[1] if alpn else None,
            exported=bytes.fromhex(exported[1]) if exported else None,
            group=group[1] if group else None,
            client_certificate=self.saw_client_certificate(text),
            text=text,
        )

    def saw_client_certificate(self, text: str) -> bool | None:
        """Servers: whether the client showed one."""
        return None

    async def failure(self) -> str:
        match = await self.program.expect(self.failed, self.since)
        return self.program.text[match.start() :]

    async def say(self, text: str) -> None:
        await self.program.write(f"{text}\n".encode())

    async def heard(self, text: str) -> None:
        match = await self.program.expect(text, self.since)
        self.since = match.end()

    def echo_of(self, data: bytes) -> bytes:
        return data

    async def finish(self) -> None:
        await self.program.end_input()


# -------------------------------------------------------------------------------------------------------- OpenSSL
class OpenSslRunning(ProgramRunning):
    """s_server and s_client. A line that begins with K asks for a KeyUpdate, and so wishes for one back."""

    failed = r"error:[0-9A-F]{8}:|ERROR$|verify error|errno="
    resumed = r"Reused session-id|(?m:^)Reused, TLSv1\.3"
    alpn = r"ALPN protocols? ?(?:selected)?: (\S+)"
    exported = r"Keying material: ([0-9A-F]+)"
    group = r"Server Temp Key: (\w+)"

    def __init__(self, program: Program, port: int, *, server: bool) -> None:
        super().__init__(program, port)
        self.server = server
        # Both write their exporter block last, before data.
        self.done = r"Keying material: [0-9A-F]+"

    def saw_client_certificate(self, text: str) -> bool | None:
        return "Client certificate\n" in text if self.server else None

    def echo_of(self, data: bytes) -> bytes:
        return b"".join(line[-2::-1] + b"\n" for line in data.splitlines(keepends=True))

    async def update_keys(self) -> None:
        since = len(self.program.text)
        await self.program.write(b"K\n")
        # Whatever comes with the command in one read is lost, so nothing more is said before it was obeyed.
        await self.program.expect(r"SSL_do_handshake -> 1" if self.server else r"KEYUPDATE", since)


class OpenSsl:
    """`openssl s_server` and `openssl s_client`."""

    name = "openssl"

    def require(self) -> None:
        require_program("openssl")

    @asynccontextmanager
    async def serve(self, wish: Wish, *, bulk: bool = False) -> AsyncIterator[OpenSslRunning]:
        arguments = [*self._common(wish), "-accept", f"{HOST}:0", "-num_tickets", "2"]
        if wish.client_certificate:
            arguments += ["-Verify", "3", "-verify_return_error"]
        if not wish.identity:
            arguments += ["-nocert"]
        if wish.cookie:
            arguments += ["-stateless"]
        if bulk:  # what it hears it sends back, each line reversed
            arguments = [argument for argument in arguments if argument != "-msg"] + ["-rev"]
        async with start("openssl", "s_server", *arguments) as program:
            match = await program.expect(r"^ACCEPT .*:(\d+)$")
            running = OpenSslRunning(program, int(match[1]), server=True)
            running.since = match.end()
            yield running

    @asynccontextmanager
    async def connect(self, port: int, wish: Wish, *, resume: bool = False) -> AsyncIterator[OpenSslRunning]:
        arguments = self._client(port, wish)
        with tempfile.TemporaryDirectory() as directory:
            if resume:
                session = str(Path(directory) / "session.pem")
                async with start("openssl", "s_client", *arguments, "-sess_out", session) as program:
                    first = OpenSslRunning(program, port, server=False)
                    await first.facts()
                    await program.expect("New Session Ticket arrived")
                    await first.say("0 for a ticket")
                    await first.heard("0 for a ticket")
                    await first.finish()
                arguments += ["-sess_in", session]
            async with start("openssl", "s_client", *arguments) as program:
                yield OpenSslRunning(program, port, server=False)

    async def bulk(self, port: int, wish: Wish, octets: int) -> None:
        arguments = [argument for argument in self._client(port, wish) if argument != "-msg"]
        exporting = arguments.index("-keymatexport")
        del arguments[exporting : exporting + 4]
        # A program whose streams are apart: what it says of itself must not stand among the data.
        async with start("openssl", "s_client", "-quiet", "-verify_quiet", *arguments) as program:
            await pump(program, octets)

    def _client(self, port: int, wish: Wish) -> list[str]:
        arguments = [*self._common(wish), "-connect", f"{HOST}:{port}", "-servername", wish.server_name]
        if wish.trust:
            arguments += ["-verify_return_error", "-verify_hostname", wish.server_name]
        return arguments

    def _common(self, wish: Wish) -> list[str]:
        arguments = ["-tls1_3", "-msg", "-keymatexport", EXPORT_LABEL, "-keymatexportlen", str(EXPORT_LENGTH)]
        if wish.identity:
            arguments += ["-cert", str(wish.identity.certificate), "-key", str(wish.identity.key)]
        if wish.trust:
            arguments += ["-CAfile", str(wish.trust), "-no-CApath"]
        if wish.alpn:
            arguments += ["-alpn", wish.alpn]
        if wish.group:
            arguments += ["-groups", {"secp256r1": "P-256", "secp384r1": "P-384"}.get(wish.group, wish.group)]
        if wish.psk:
            arguments += ["-psk_identity", PSK_IDENTITY, "-psk", wish.psk.hex()]
        return arguments


# --------------------------------------------------------------------------------------------------------- GnuTLS
class GnuTlsRunning(ProgramRunning):
    """gnutls-serv echoes and takes commands from its client; gnutls-cli takes them on its standard input."""

    failed = (
        r"\*\*\* Fatal error|Error in handshake|Status: The certificate is NOT trusted|Certificate verification error"
    )
    resumed = r"This is a resumed session"
    alpn = r"Application protocol: (\S+)"
    exported = r"Key material: ([0-9a-f]+)"
    group = r"ECDHE-(\w+)"
    done = r"Key material: [0-9a-f]+"

    def __init__(self, program: Program, port: int, *, server: bool) -> None:
        super().__init__(program, port)
        self.server = self.echoes = server

    def saw_client_certificate(self, text: str) -> bool | None:
        return "Certificate[0]" in text if self.server else None

    async def update_keys(self) -> None:
        if self.server:
            raise PeerFailed("gnutls-serv updates its keys when its client writes **REHANDSHAKE**")
        await self.program.write(b"^rekey^\n")
        await self.heard("Rekey was completed")


class GnuTls:
    """`gnutls-serv` and `gnutls-cli`."""

    name = "gnutls"

    def require(self) -> None:
        require_program("gnutls-serv", "gnutls-cli")

    @asynccontextmanager
    async def serve(self, wish: Wish, *, bulk: bool = False) -> AsyncIterator[GnuTlsRunning]:
        port = free_port()
        arguments = [*self._common(wish), "--echo", "--port", str(port)]
        if bulk:
            arguments += ["--quiet"]
        if wish.client_certificate:
            arguments += ["--require-client-cert", "--verify-client-cert"]
        else:
            arguments += ["--disable-client-cert"]
        with tempfile.TemporaryDirectory() as directory:
            if wish.psk:
                passwords = Path(directory) / "psk.txt"
                passwords.write_text(f"{PSK_IDENTITY}:{wish.psk.hex()}\n")
                arguments += ["--pskpasswd", str(passwords)]
            async with start("gnutls-serv", *arguments) as program:
                running = GnuTlsRunning(program, port, server=True)
                match = await program.expect(r"listening on IPv4.*done")
                await asyncio.sleep(0.05)
                running.since = match.end()
                yield running

    @asynccontextmanager
    async def connect(self, port: int, wish: Wish, *, resume: bool = False) -> AsyncIterator[GnuTlsRunning]:
        arguments = [*self._client(port, wish), "--inline-commands"]
        if resume:
            arguments += ["--resume", "--waitresumption"]
        async with start("gnutls-cli", *arguments) as program:
            running = GnuTlsRunning(program, port, server=False)
            if resume:
                match = await program.expect("trying to resume previous session")
                running.since = match.end()
            yield running

    async def bulk(self, port: int, wish: Wish, octets: int) -> None:
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "log.txt"
            async with start("gnutls-cli", *self._client(port, wish), "--logfile", log) as program:
                await pump(program, octets)

    def _client(self, port: int, wish: Wish) -> list[str]:
        arguments = [*self._common(wish), "--port", str(port)]
        names = ["--sni-hostname", wish.server_name, "--verify-hostname", wish.server_name]
        if wish.psk:
            names = ["--pskusername", PSK_IDENTITY, "--pskkey", wish.psk.hex()]
        return [*arguments, *names, HOST]

    def _common(self, wish: Wish) -> list[str]:
        priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3"
        if wish.group:
            priority += f":-GROUP-ALL:+GROUP-{wish.group.upper()}"
        if wish.psk:
            priority += ":+DHE-PSK:+PSK"
        arguments = ["--priority", priority]
        arguments += ["--keymatexport", EXPORT_LABEL, "--keymatexportsize", str(EXPORT_LENGTH)]
        if wish.identity:
            arguments += ["--x509certfile", str(wish.identity.certificate), "--x509keyfile", str(wish.identity.key)]
        if wish.trust:
            arguments += ["--x509cafile", str(wish.trust)]
        if wish.alpn:
            arguments += ["--alpn", wish.alpn]
        return arguments
