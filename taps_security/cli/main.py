"""The commands and their options. What they do lives in the modules of the same names, loaded when it is needed."""

from __future__ import annotations

import dataclasses
import inspect
import json
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from ..properties.security import Role
from ..stack.errors import ConfigurationError
from .errors import DONE, INTERRUPTED, reporting, say, told
from .options import Credentials, General, Peer, Selection, declare, local_endpoint, remote_endpoint

app = typer.Typer(
    name="taps",
    help="One API over every transport security protocol: serve, connect, race, and see what happened.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keygen = typer.Typer(help="Keys and certificates as files.", no_args_is_help=True)
app.add_typer(keygen, name="keygen")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Target = Annotated[str | None, typer.Argument(metavar="HOST:PORT", help="The peer; default: [remote] of the profile.")]
Timeout = Annotated[float | None, typer.Option(metavar="S", min=0.001, help="Seconds for establishing.")]
Explain = Annotated[bool, typer.Option("--explain", help="Say first which stacks qualify, and why, on stderr.")]
SessionPath = Annotated[Path | None, typer.Option(metavar="FILE", help="Resume with, and keep, sessions.")]
Out = Annotated[Path, typer.Option(metavar="PATH", help="Where to write.")]
Algorithm = Literal["p256", "p384", "ed25519", "rsa2048"]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status. Every error is one line on standard error."""
    command = typer.main.get_command(app)
    try:
        status = command.main(
            args=None if arguments is None else list(arguments), prog_name="taps", standalone_mode=False
        )
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        status, line = told(error)
        if line:
            say(line)
    return status if isinstance(status, int) else DONE


def with_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter that is a dataclass into options: one per field."""
    groups: dict[str, Any] = {}
    parameters = []
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            groups[name] = kind
            parameters += list(_options_of(kind))
        else:
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    def command(**given: Any) -> None:
        for name, kind in groups.items():
            fields = [entry.name for entry in dataclasses.fields(kind)]
            given[name] = kind(**{field: given.pop(field) for field in fields})
        function(**given)

    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {}
    return command


def _options_of(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for entry in dataclasses.fields(kind):
        default = entry.default if entry.default is not dataclasses.MISSING else []
        keyword = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(entry.name, keyword, default=default, annotation=hints[entry.name]))
    return found


# -------------------------------------------------------------------------------------------------------- look and see
@app.command()
@with_groups
def demo(
    general: General,
    good: Annotated[int, typer.Option(min=1, max=3, help="Which of the three endpoints is the good one.")] = 3,
    blocked: Annotated[
        Literal["tcp", "udp"] | None, typer.Option(help="What does not get through to the good one.")
    ] = None,
    json_: Json = False,
) -> None:
    """Race TLS and CurveCP to three endpoints on loopback: one is silent, one has a wrong certificate, one is good."""
    from . import demo as room  # noqa: PLC0415
    from .race import show  # noqa: PLC0415

    with reporting(verbose=general.verbose):
        show(general.run(lambda: room.run(good, blocked), exact=True), as_words=json_)


@app.command()
@with_groups
def protocols(credentials: Credentials, selection: Selection, json_: Json = False) -> None:
    """Which stacks qualify, in which order, and why the others do not."""
    from .pictures import console, stacks_table  # noqa: PLC0415
    from .protocols import as_json, choices  # noqa: PLC0415

    with reporting(verbose=False):
        words = as_json(choices(declare(credentials, selection, Role.CLIENT)))
        if json_:
            print(json.dumps(words, indent=2))
        else:
            console().print(stacks_table(words["candidates"]))


@app.command()
def status(
    socket: Annotated[Path | None, typer.Argument(metavar="SOCKET", help="The same as --control.")] = None,
    control: Annotated[Path | None, typer.Option(metavar="SOCKET", help="What `taps serve --control` made.")] = None,
    json_: Json = False,
) -> None:
    """What runs behind `taps serve --control SOCKET`: per peer its stack, keys and their age, traffic."""
    from .pictures import console, peers_table, tunnel_text  # noqa: PLC0415
    from .status import ask  # noqa: PLC0415

    with reporting(verbose=False):
        path = control or socket
        if path is None:
            raise ConfigurationError(
                "--control: nothing was given, expected the socket of `taps serve --control SOCKET`"
            )
        words = ask(path)
        if json_:
            print(json.dumps(words, indent=2))
            return
        screen = console()
        for entry in words["stacks"]:
            screen.print(f"{entry['stack']} on {entry['endpoint']}, app {words['app']}, {words['age']:.0f} s")
        screen.print(f"{words['served']} served so far, {len(words['peers'])} here now")
        if words["peers"]:
            screen.print(peers_table(words["peers"]))
        for tunnel in words.get("tunnels", ()):
            screen.print(tunnel_text(tunnel, time.time()), end="")


# ---------------------------------------------------------------------------------------------------------- connect
@app.command()
@with_groups
def connect(
    credentials: Credentials,
    peer: Peer,
    selection: Selection,
    general: General,
    target: Target = None,
    message_mode: Annotated[
        Literal["stream", "lines", "datagram"],
        typer.Option(help="What one message is: whatever fits, a line, or each read of the input."),
    ] = "stream",
    session_file: SessionPath = None,
    update_keys_every: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="New keys after every N messages (pieces of up to 64 KiB, or lines)."),
    ] = 0,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0,
            help="At the end of input, wait that long for the peer's end; default: for ever. Where messages have no "
            "end: until nothing came for so long; default: 1.",
        ),
    ] = None,
    timeout: Timeout = None,
    explain: Explain = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the security report on stderr.")] = False,
) -> None:
    """Like netcat: standard input goes to the peer, what arrives goes to standard output."""
    from . import connect as room  # noqa: PLC0415
    from .relay import Manner  # noqa: PLC0415

    with reporting(verbose=general.verbose):
        if message_mode == "datagram":
            selection.imply("preserve_msg_boundaries")
        declared = declare(credentials, selection, Role.CLIENT, peer)
        lines, datagrams = message_mode == "lines", message_mode == "datagram"
        call = room.Call(
            remote=remote_endpoint(target, declared.profile),
            declared=declared,
            manner=Manner(lines=lines, datagrams=datagrams, update_every=update_keys_every, wait=wait),
            timeout=timeout,
            explain=explain,
            report=json_,
            session_file=session_file,
            key_log=general.key_log(),
        )
        general.run(lambda: room.run(call))


@app.command()
@with_groups
def race(
    credentials: Credentials,
    peer: Peer,
    selection: Selection,
    general: General,
    target: Target = None,
    session_file: SessionPath = None,
    timeout: Timeout = None,
    explain: Explain = False,
    json_: Json = False,
) -> None:
    """Establish as connect does, print how the race went, and close."""
    from . import race as room  # noqa: PLC0415
    from .connect import Call  # noqa: PLC0415

    with reporting(verbose=general.verbose):
        declared = declare(credentials, selection, Role.CLIENT, peer)
        call = Call(
            remote=remote_endpoint(target, declared.profile),
            declared=declared,
            timeout=timeout,
            explain=explain,
            session_file=session_file,
            key_log=general.key_log(),
        )
        general.run(lambda: room.run(call, as_words=json_), exact=True)


# ------------------------------------------------------------------------------------------------------------ serve
@app.command()
@with_groups
def serve(
    credentials: Credentials,
    selection: Selection,
    general: General,
    where: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where to listen; port 0 picks a free one.")],
    application: Annotated[
        Literal["echo", "discard", "chargen", "cat"], typer.Option("--app", help="What to do with a connection.")
    ] = "echo",
    require_client_auth: Annotated[
        bool, typer.Option("--require-client-auth", help="Clients must show a certificate that --trust vouches for.")
    ] = False,
    server_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Our name, where those who mean another one are not to be answered."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after one connection.")] = False,
    grace: Annotated[
        float, typer.Option(metavar="S", min=0, help="At SIGTERM, connections have that long to finish.")
    ] = 5.0,
    idle: Annotated[
        float,
        typer.Option(
            metavar="S", min=0.001, help="Where messages have no end: a connection ends when nothing came for so long."
        ),
    ] = 60.0,
    control: Annotated[Path | None, typer.Option(metavar="SOCKET", help="A unix socket for `taps status`.")] = None,
) -> None:
    """Serve an app; prints `ready STACK HOST:PORT` for each stack once it accepts."""
    from . import serve as room  # noqa: PLC0415

    with reporting(verbose=general.verbose):
        more = {"client_authentication": "require"} if require_client_auth else {}
        service = room.Service(
            local=local_endpoint(where),
            declared=declare(credentials, selection, Role.SERVER, Peer(server_name=server_name), **more),
            app=application,
            once=once,
            grace=grace,
            idle=idle,
            control=control,
            key_log=general.key_log(),
            verbose=general.verbose,
        )
        general.run(lambda: room.run(service))


# ----------------------------------------------------------------------------------------------------------- keygen
@keygen.command()
def x509(
    name: Annotated[list[str], typer.Option(metavar="NAME", help="DNS name or address; the first is the subject.")],
    out: Out,
    algorithm: Annotated[Algorithm, typer.Option(help="The key of the certificate.")] = "p256",
    days: Annotated[float, typer.Option(min=0.001, help="How long the certificate is valid.")] = 397,
) -> None:
    """A new authority and a certificate under it: ca.pem, cert.pem, key.pem."""
    from . import keygen as room  # noqa: PLC0415

    with reporting(verbose=False):
        identity = room.make_x509(name, out, algorithm, days)
        print(f"{out / 'cert.pem'}: {identity.subject}, {algorithm}, --pin {room.pin_of(identity)}")


@keygen.command()
def static(out: Out) -> None:
    """An X25519 private key in base64; prints the public key."""
    from . import keygen as room  # noqa: PLC0415

    with reporting(verbose=False):
        print(room.make_static(out))


@keygen.command()
def psk(out: Out) -> None:
    """A pre-shared key: 32 random octets in base64."""
    from . import keygen as room  # noqa: PLC0415

    with reporting(verbose=False):
        room.make_psk(out)


@keygen.command()
def curvecp(out: Out) -> None:
    """A key folder as curvecpmakekey makes it; prints the public key in hex and in base64."""
    from . import keygen as room  # noqa: PLC0415

    with reporting(verbose=False):
        public = room.make_folder(out)
        print(public.hex(), b64encode(public).decode(), sep="\n")
