"""A TLS peer in a process of its own: Python's `ssl`, or pyOpenSSL. Run as a script; the library is not imported here.

    python python_peer.py ssl|pyopenssl '{"role": "server" | "client", ...}'

Standard output carries JSON lines (ready, connected, failed, heard, closed), standard input carries commands
(say, finish). A server echoes what it hears.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from typing import Any

HOST = "127.0.0.1"
CHUNK = 65_536


def tell(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class Ssl:
    """Python's own module."""

    def __init__(self, wish: dict[str, Any]) -> None:
        import ssl

        self.errors, self.not_yet = (ssl.SSLError, OSError), ssl.SSLWantReadError
        server = wish["role"] == "server"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if wish["certificate"]:
            context.load_cert_chain(wish["certificate"], wish["key"])
        if wish["trust"]:
            context.load_verify_locations(wish["trust"])
            context.verify_mode = ssl.CERT_REQUIRED if not server or wish["client_certificate"] else ssl.CERT_NONE
        if wish["alpn"]:
            context.set_alpn_protocols([wish["alpn"]])
        if wish["group"]:
            context.set_ecdh_curve({"secp256r1": "prime256v1"}.get(wish["group"], wish["group"]))
        if wish["psk"]:
            self._use_psk(context, server, wish)
        self.context, self.name = context, wish["server_name"]

    def _use_psk(self, context: Any, server: bool, wish: dict[str, Any]) -> None:
        import ssl

        key = bytes.fromhex(wish["psk"])
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if server:
            context.set_psk_server_callback(lambda identity: key if identity == wish["psk_identity"] else b"")
        else:
            context.set_psk_client_callback(lambda hint: (wish["psk_identity"], key))

    def server(self, raw: socket.socket) -> Any:
        return self.context.wrap_socket(raw, server_side=True)

    def client(self, raw: socket.socket, session: Any) -> Any:
        return self.context.wrap_socket(raw, server_hostname=self.name, session=session)

    def facts(self, tls: Any) -> dict[str, Any]:
        return {
            "resumed": tls.session_reused,
            "alpn": tls.selected_alpn_protocol(),
            "client_certificate": bool(tls.getpeercert(True)),
            "version": tls.version(),
        }

    def session(self, tls: Any) -> Any:
        return tls.session

    def receive(self, tls: Any) -> bytes:
        return bytes(tls.recv(CHUNK))

    def finish(self, tls: Any) -> None:
        tls.unwrap()


class PyOpenSsl:
    """pyOpenSSL with the OpenSSL that `cryptography` brings."""

    def __init__(self, wish: dict[str, Any]) -> None:
        from OpenSSL import SSL

        self.ssl, self.errors, self.not_yet = SSL, (SSL.Error, OSError), SSL.WantReadError
        self.label = wish["export_label"].encode()
        server = wish["role"] == "server"
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_BOTH)
        context.set_session_id(b"interop")
        if wish["certificate"]:
            context.use_certificate_chain_file(wish["certificate"])
            context.use_privatekey_file(wish["key"])
        if wish["trust"]:
            context.load_verify_locations(wish["trust"])
            if not server:
                context.set_verify(SSL.VERIFY_PEER)
            elif wish["client_certificate"]:
                context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        if wish["alpn"] and server:
            mine = wish["alpn"].encode()
            context.set_alpn_select_callback(
                lambda _, offered: mine if mine in offered else SSL.NO_OVERLAPPING_PROTOCOLS
            )
        elif wish["alpn"]:
            context.set_alpn_protos([wish["alpn"].encode()])
        if wish["group"]:
            from cryptography.hazmat.primitives.asymmetric import ec

            context.set_tmp_ecdh({"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}[wish["group"]])
        self.context, self.name = context, wish["server_name"]

    def server(self, raw: socket.socket) -> Any:
        tls = self.ssl.Connection(self.context, raw)
        tls.set_accept_state()
        tls.do_handshake()
        return tls

    def client(self, raw: socket.socket, session: Any) -> Any:
        tls = self.ssl.Connection(self.context, raw)
        name = self.name.encode()
        tls.set_tlsext_host_name(name)
        library = self.ssl._lib  # pyOpenSSL has no call of its own that checks names
        library.X509_VERIFY_PARAM_set1_host(library.SSL_get0_param(tls._ssl), name, len(name))
        if session is not None:
            tls.set_session(session)
        tls.set_connect_state()
        tls.do_handshake()
        return tls

    def facts(self, tls: Any) -> dict[str, Any]:
        return {
            "resumed": bool(self.ssl._lib.SSL_session_reused(tls._ssl)),
            "alpn": tls.get_alpn_proto_negotiated().decode(),
            "exported": tls.export_keying_material(self.label, 32, b"").hex(),
            "client_certificate": tls.get_peer_certificate() is not None,
            "group": tls.get_group_name(),
            "version": tls.get_protocol_version_name(),
        }

    def session(self, tls: Any) -> Any:
        return tls.get_session()

    def receive(self, tls: Any) -> bytes:
        try:
            return bytes(tls.recv(CHUNK))
        except self.ssl.ZeroReturnError:
            return b""

    def finish(self, tls: Any) -> None:
        tls.shutdown()


def serve(kind: Any) -> None:
    """Accept one connection after the other; echo each until it ends."""
    with socket.create_server((HOST, 0)) as listening:
        tell("ready", port=listening.getsockname()[1])
        while True:
            raw, _ = listening.accept()
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                tls = kind.server(raw)
            except kind.errors as error:
                tell("failed", error=f"{type(error).__name__} {error}")
                raw.close()
                continue
            tell("connected", **kind.facts(tls))
            try:
                while data := kind.receive(tls):
                    if len(data) < 100:
                        tell("heard", text=data.decode("ascii", "replace"))
                    tls.sendall(data)
                kind.finish(tls)
                tell("closed")
            except kind.errors as error:
                tell("broken", error=f"{type(error).__name__} {error}")
            finally:
                tls.close()
                raw.close()


def connect(kind: Any, port: int, resume: bool) -> None:
    """Connect, twice if a session is to be resumed; then obey commands."""
    session = None
    for last in (False, True) if resume else (True,):
        raw = socket.create_connection((HOST, port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            tls = kind.client(raw, session)
            if last:
                tell("connected", **kind.facts(tls))
                converse(kind, tls)
            else:
                tls.sendall(b"0 for a ticket\n")
                kind.receive(tls)
                session = kind.session(tls)
                kind.finish(tls)
        except kind.errors as error:
            tell("failed", error=f"{type(error).__name__} {error}")
        raw.close()


def converse(kind: Any, tls: Any) -> None:
    """Commands from standard input, data from the connection, whichever comes."""
    commands = b""
    while True:
        waiting = [] if tls.pending() else [tls, sys.stdin.fileno()]
        ready = select.select(waiting, [], [])[0] if waiting else [tls]
        if tls in ready:
            tls.setblocking(False)
            try:
                data = kind.receive(tls)
                if not data:
                    tell("closed")
                    return
                tell("heard", text=data.decode("ascii", "replace"))
            except kind.not_yet:
                pass  # a ticket, or a part of a record
            tls.setblocking(True)
        if sys.stdin.fileno() in ready:
            more = os.read(sys.stdin.fileno(), CHUNK)
            *lines, commands = (commands + more).split(b"\n")
            for line in lines:
                command = json.loads(line)
                if command["do"] == "say":
                    tls.sendall(command["text"].encode())
                elif command["do"] == "bulk":
                    bulk(kind, tls, command["octets"])
            if not more or any(json.loads(line)["do"] == "finish" for line in lines):
                kind.finish(tls)
                tell("closed")
                return


def bulk(kind: Any, tls: Any, octets: int) -> None:
    """Send that much in pieces, and read each piece back."""
    sent = 0
    while sent < octets:
        piece = os.urandom(min(CHUNK, octets - sent))
        tls.sendall(piece)
        back = b""
        while len(back) < len(piece):
            data = kind.receive(tls)
            if not data:
                tell("failed", error="the connection ended in the middle")
                return
            back += data
        if back != piece:
            tell("failed", error="other data came back")
            return
        sent += len(piece)
    tell("bulk", octets=sent)


if __name__ == "__main__":
    flavour, wishes = sys.argv[1], json.loads(sys.argv[2])
    chosen = Ssl(wishes) if flavour == "ssl" else PyOpenSsl(wishes)
    if wishes["role"] == "server":
        serve(chosen)
    else:
        connect(chosen, wishes["port"], wishes["resume"])
