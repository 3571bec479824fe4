"""What curvecpmessage runs on either side: `python tests/interop/nacl_program.py READ WRITE STEP ...`.

READ and WRITE are descriptors: 0 and 1 under a server's curvecpmessage, 6 and 7 under a client's. The steps, in order:

write:OCTETS:SEED   these octets of the stream that SEED names
read:OCTETS         wait for so many
drain               read until the peer ends its stream
end                 end ours
echo                send back what comes until the peer ends its stream, however much of it waits
relay               the same, one piece after the other, which is fastest for who waits for each
swap:OCTETS:SEED    write and end, while reading until the peer ends its stream
clock:OCTETS        read so many, uncounted, and time it from the first to the last
ping:COUNT          so many round trips of one octet with an echo, and time them

At the end it writes one line of JSON on its standard error, which curvecpmessage leaves to it: the octets that came,
their SHA-256, and the seconds. Reading never waits for writing, as curvecpmessage does: it looks at nothing of its
peer's while its program does not read, not even at acknowledgements, so two programs that wait to write wait for ever.
Nothing but the standard library, and nothing of this project.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from queue import SimpleQueue

PIECE = 65_536  # octets


def octets_of(seed: int, size: int) -> bytes:
    """The first `size` octets of a stream; both ends know it."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


class Program:
    """Two descriptors, and what came from one of them."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.came = 0
        self.digest = hashlib.sha256()
        self.seconds = 0.0

    def read_some(self, most: int = PIECE) -> bytes:
        """What is there, or b"" at the end."""
        data = os.read(self.source, most)
        self.came += len(data)
        self.digest.update(data)
        return data

    def write_all(self, data: bytes) -> None:
        """Wait until all of it was taken."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.sink, rest[:PIECE]) :]

    # -- steps --------------------------------------------------------------------------------------------------------
    def write(self, size: str, seed: str) -> None:
        self.write_all(octets_of(int(seed), int(size)))

    def read(self, size: str) -> None:
        wanted = self.came + int(size)
        while self.came < wanted and self.read_some(wanted - self.came):
            pass

    def drain(self) -> None:
        while self.read_some():
            pass

    def end(self) -> None:
        os.close(self.sink)

    def echo(self) -> None:
        waiting: SimpleQueue[bytes] = SimpleQueue()

        def send_back() -> None:
            while data := waiting.get():
                self.write_all(data)

        sender = threading.Thread(target=send_back)
        sender.start()
        while data := self.read_some():
            waiting.put(data)
        waiting.put(b"")
        sender.join()

    def relay(self) -> None:
        while data := os.read(self.source, PIECE):
            os.write(self.sink, data)

    def swap(self, size: str, seed: str) -> None:
        def write_and_end() -> None:
            self.write(size, seed)
            self.end()

        sender = threading.Thread(target=write_and_end)
        sender.start()
        self.drain()
        sender.join()

    def clock(self, size: str) -> None:
        missing = int(size) - len(os.read(self.source, PIECE))
        start = time.perf_counter()
        while missing > 0:
            data = os.read(self.source, PIECE)
            if not data:
                raise EOFError(f"{missing} octets are missing")
            missing -= len(data)
        self.seconds = time.perf_counter() - start

    def ping(self, count: str) -> None:
        source, sink = self.source, self.sink
        start = time.perf_counter()
        for _ in range(int(count)):
            os.write(sink, b"x")
            os.read(source, 1)
        self.seconds = time.perf_counter() - start


def main() -> None:
    """Do the steps and say what came."""
    program = Program(int(sys.argv[1]), int(sys.argv[2]))
    for step in sys.argv[3:]:
        name, *arguments = step.split(":")
        getattr(program, name)(*arguments)
    told = {"octets": program.came, "sha256": program.digest.hexdigest(), "seconds": program.seconds}
    sys.stderr.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
