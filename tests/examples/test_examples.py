"""Every example runs as a user runs it, and prints what it should."""

from __future__ import annotations

import http.server
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.pki import Pki

HELPERS = {"loopback", "tun_device"}  # imported by the others
SERVERS_AND_CLIENTS = {"echo_server", "echo_client", "http_get"}
IN_NAMESPACES = {"wireguard_echo", "wireguard_tun"}  # tests/examples/test_wireguard_examples.py

# Each prints lines that match, in this order.
SAY = {
    "racing_two_addresses": [
        r"hello",
        r"silent address: lost \(connect 0\.\d\d to 0\.\d\d s, handshake 0\.\d\d to \d\.\d\d s\)",
        r"good address: won \(connect 0\.[2-9]\d to \d\.\d\d s, handshake .*\)",
    ],
    "mutual_tls": [
        r"hello, .*alice\.staff\.example.*",
        r"mallory\.example was refused: .*",
        r"nobody was refused: .*certificate_required",
    ],
    "pinned_certificate": [r"pin sha256:[0-9a-f]{64}", r"hello", r"refused: .*not pinned.*"],
    "resumption": [
        r"first: resumed=False, sessions kept: 2",
        r"second: resumed=True, the peer is still .*server\.example.*",
        r"clone: resumed=True",
    ],
    "key_update_and_export": [
        r"exported secrets are equal",
        r"key generations \(send, receive\): \(0, 0\)",
        r"after update_keys\(\): \(1, 1\)",
        r"after 8 more messages 2 keys had expired: \(3, 1\)",
    ],
    "wireguard_pair": [
        r"wireguard 1: X25519, CHACHA20_POLY1305, BLAKE2S; the peer is [A-Za-z0-9+/]{43}=",
        r"hello, and 1392 would fit",
        r"from another port",
        r"with other keys",
        r"key 0 receive: ready",
        r"key 0 send: ready",
        r"key 0: confirmed",
        r"key 1 receive: ready",
        r"key 0 send: discarded",
        r"key 1 send: ready",
        r"key 1: confirmed",
        r"the server received \d{3} octets and sent \d{3}",
    ],
    "wireguard_packets": [
        r"the server got a datagram: made by hand",
        r"10\.88\.0\.1 answered: protocol 1, type 0, are you there\?",
    ],
    "racing_tls_and_curvecp": [
        r"tls: rank 0, meets .*endpoint_authentication, forward_secrecy, .*",
        r"curvecp: rank 1, meets .*endpoint_authentication, forward_secrecy, .*",
        r"open path: hello over tls, ready after 80 ms",
        r"open path, mobility preferred: hello over curvecp, ready after 40 ms",
        r"TCP blocked: hello over curvecp, ready after 290 ms",
        r"UDP blocked, mobility preferred: hello over tls, ready after 330 ms",
        r"200 ms each way: hello over curvecp, ready after 650 ms",
    ],
    "virtual_time": [r"two tests passed; .*"],
}


def python(project: Path, name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(project / "examples" / f"{name}.py"), *arguments]


def run(project: Path, folder: Path, name: str, *arguments: str, status: int = 0) -> str:
    ran = subprocess.run(
        python(project, name, *arguments), cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout + ran.stderr


def test_every_example_is_run(project: Path) -> None:
    assert {
        path.stem for path in (project / "examples").glob("*.py")
    } == HELPERS | SERVERS_AND_CLIENTS | IN_NAMESPACES | set(SAY)


@pytest.mark.parametrize("name", SAY)
def test_an_example_says_what_happened(project: Path, tmp_path: Path, name: str) -> None:
    lines = run(project, tmp_path, name).splitlines()
    assert len(lines) == len(SAY[name]), lines
    for line, expected in zip(lines, SAY[name], strict=True):
        assert re.fullmatch(expected, line), f"{line!r} is not {expected!r}"


def test_the_tests_of_a_users_program_run_under_pytest_too(project: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(project / "examples/virtual_time.py"),
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


# ------------------------------------------------------------------------------------------------------ echo over TLS
@contextmanager
def echo_server(project: Path, folder: Path, *arguments: str) -> Iterator[int]:
    """The server as a process of its own; its port. It must end by itself when it is told to."""
    with subprocess.Popen(
        python(project, "echo_server", "--port", "0", *arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            said = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", server.stdout.readline())
            assert said, server.communicate(timeout=10)
            yield int(said[1])
            server.send_signal(signal.SIGTERM)
            output, errors = server.communicate(timeout=20)
            assert (server.returncode, output, errors) == (0, "", "")
        finally:
            if server.poll() is None:
                server.kill()


def test_client_and_server_with_a_throwaway_certificate(project: Path, tmp_path: Path) -> None:
    with echo_server(project, tmp_path) as port:
        said = run(project, tmp_path, "echo_client", "--port", str(port), "one", "two").splitlines()
        assert said[0].startswith("tls 1.3: ")
        assert "server.example" in said[0]
        assert said[1:] == ["one", "two"]


def test_client_and_server_with_files(project: Path, tmp_path: Path, pki: Pki) -> None:
    files = pki.files(pki.leaf())
    with echo_server(project, tmp_path, "--identity", str(files.certificate), "--key", str(files.key)) as port:
        trusted = ("--port", str(port), "--trust", str(pki.trust_file))
        assert run(project, tmp_path, "echo_client", *trusted).splitlines()[1:] == ["hello"]
        other = ("--port", str(port), "--trust", str(pki.other_trust_file))
        said = run(project, tmp_path, "echo_client", *other, status=1)
        assert said.startswith("echo_client: ")
        assert len(said.splitlines()) == 1


# --------------------------------------------------------------------------------------------------------------- HTTP
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"you asked for {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextmanager
def https_server(pki: Pki) -> Iterator[int]:
    """A web server on Python's own `ssl`; its port."""
    files = pki.files(pki.leaf())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["http/1.1"])
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_page_over_asyncio_streams(project: Path, tmp_path: Path, pki: Pki) -> None:
    with https_server(pki) as port:
        url = f"https://localhost:{port}/a/page?and=more"
        said = run(project, tmp_path, "http_get", url, "--trust", str(pki.trust_file))
        assert said.splitlines() == ["HTTP/1.1 200 OK", "you asked for /a/page?and=more"]
        said = run(project, tmp_path, "http_get", url, status=1)  # the system's roots know nothing of it
        assert said.startswith("http_get: ")
