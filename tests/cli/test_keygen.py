"""What `taps keygen` writes, and that it works."""

from __future__ import annotations

import stat
import subprocess
import time
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from taps_security.cli.keygen import make_folder, write
from taps_security.cli.main import run
from taps_security.cli.profile import read_static_key
from taps_security.crypto.agreement import Group, from_private
from taps_security.crypto.certificates import Identity, fingerprint
from taps_security.crypto.sodium import scalarmult_base
from taps_security.crypto.trust import TrustAnchors, verify_chain
from tests.interop.peers import require_program


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("algorithm", ["p256", "p384", "ed25519", "rsa2048"])
def test_x509(capsys: pytest.CaptureFixture[str], tmp_path: Path, algorithm: str) -> None:
    out = tmp_path / "new" / "folder"
    names = ["--name", "server.example", "--name", "127.0.0.1"]
    assert run(["keygen", "x509", *names, "--out", str(out), "--algorithm", algorithm]) == 0
    identity = Identity.from_pem((out / "cert.pem").read_bytes(), (out / "key.pem").read_bytes())
    anchors = TrustAnchors.from_file(str(out / "ca.pem"))
    for name in ("server.example", "127.0.0.1"):
        assert verify_chain(anchors, identity.chain, name, time.time(), "server")
    assert [mode(out / name) for name in ("ca.pem", "cert.pem", "key.pem")] == [0o644, 0o644, 0o600]
    said = capsys.readouterr().out
    assert f"--pin sha256:{fingerprint(identity.chain[0]).hex()}" in said
    assert "CN=server.example" in said


def test_x509_refuses_what_is_no_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["keygen", "x509", "--name", "münchen.example", "--out", str(tmp_path)]) == 2
    assert "--name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_x509_says_where_it_cannot_write(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(["keygen", "x509", "--name", "a.example", "--out", str(tmp_path / "file")]) == 1
    assert "file" in capsys.readouterr().err


def test_static(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "static.key"
    assert run(["keygen", "static", "--out", str(out)]) == 0
    private = b64decode(out.read_text(), validate=False)
    public = b64decode(capsys.readouterr().out)
    assert len(private) == 32
    assert (private[0] & 7, private[31] & 192) == (0, 64)  # clamped (RFC 7748 §5)
    assert from_private(Group.X25519, private).public == public
    assert mode(out) == 0o600
    assert out.read_bytes().endswith(b"=\n")


def test_static_keys_are_those_of_wg(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`wg pubkey` finds the same public key, and we take what `wg genkey` makes."""
    require_program("wg")
    out = tmp_path / "static.key"
    assert run(["keygen", "static", "--out", str(out)]) == 0
    ran = subprocess.run(["wg", "pubkey"], input=out.read_bytes(), capture_output=True, check=True)
    assert ran.stdout.decode() == capsys.readouterr().out
    made = subprocess.run(["wg", "genkey"], capture_output=True, check=True).stdout
    out.write_bytes(made)
    assert read_static_key(out) == b64decode(made)
    assert out.stat().st_size == len(made) == 45


def test_psk(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for out in (first, second):
        assert run(["keygen", "psk", "--out", str(out)]) == 0
        assert len(b64decode(out.read_text())) == 32
        assert mode(out) == 0o600
    assert first.read_bytes() != second.read_bytes()


def test_a_key_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "keys"
    assert run(["keygen", "curvecp", "--out", str(out)]) == 0
    public = (out / "publickey").read_bytes()
    assert capsys.readouterr().out.split() == [public.hex(), b64encode(public).decode()]
    assert scalarmult_base(read_static_key(out)) == public
    assert (mode(out), mode(out / ".expertsonly")) == (0o755, 0o700)
    sizes = {path.name: (path.stat().st_size, mode(path)) for path in out.rglob("*") if path.is_file()}
    secret = {name: (size, 0o600) for name, size in (("secretkey", 32), ("lock", 1), ("noncekey", 32))}
    assert sizes == {"publickey": (32, 0o644), **secret, "noncecounter": (8, 0o600)}
    assert (out / ".expertsonly/noncecounter").read_bytes() == bytes(8)
    assert [found.name for found in out.parent.iterdir()] == ["keys"]


def test_a_key_folder_is_never_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_folder(tmp_path / "keys")
    before = read_static_key(tmp_path / "keys")
    assert run(["keygen", "curvecp", "--out", str(tmp_path / "keys")]) == 2
    assert "expected the name of a new folder" in capsys.readouterr().err
    assert read_static_key(tmp_path / "keys") == before
    (tmp_path / "file").write_text("")
    assert run(["keygen", "curvecp", "--out", str(tmp_path / "file/keys")]) == 1
    assert [found.name for found in sorted(tmp_path.iterdir())] == ["file", "keys"]


def test_key_folders_are_those_of_nacl_tools(tmp_path: Path) -> None:
    """The same files with the same modes; curvecpprintkey finds the same key, and we read what curvecpmakekey makes."""
    require_program("curvecpprintkey", "curvecpmakekey")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    public = make_folder(ours)
    printed = subprocess.run(["curvecpprintkey", str(ours)], capture_output=True, check=True).stdout
    assert printed.decode().strip() == public.hex()
    subprocess.run(["curvecpmakekey", str(theirs)], check=True)
    assert scalarmult_base(read_static_key(theirs)) == (theirs / "publickey").read_bytes()

    def layout(folder: Path) -> dict[str, tuple[int, int]]:
        entries = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): (path.stat().st_size, mode(path)) for path in entries}

    assert layout(ours) == layout(theirs)


def test_write_replaces_at_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old, and readable by all")
    path.chmod(0o644)
    write(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["key"]


def test_write_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write(tmp_path / "folder", b"new", 0o600)
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]
