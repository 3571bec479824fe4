from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taps_security.stack.events import KeyId, Stage
from taps_security.stack.layers import Opened, SendBuffer, StreamOpened, UnitKind


def copied(buffer: SendBuffer, size: int) -> bytes:
    target = bytearray(size)
    with memoryview(target) as view:
        return bytes(target[: buffer.copy_into(view)])


@given(st.lists(st.binary(max_size=40), max_size=80), st.lists(st.integers(1, 60), min_size=1))
def test_octets_come_out_in_order_however_they_went_in(chunks: list[bytes], sizes: list[int]) -> None:
    buffer = SendBuffer()
    kinds = (bytes, bytearray, memoryview)
    for index, chunk in enumerate(chunks):
        buffer.append(kinds[index % 3](chunk))
    out, turn = b"", 0
    while buffer.size:
        piece = copied(buffer, sizes[turn % len(sizes)])
        assert len(piece) == min(sizes[turn % len(sizes)], len(b"".join(chunks)) - len(out))
        out += piece
        assert buffer.size == len(b"".join(chunks)) - len(out)
        turn += 1
        if turn == 3:
            buffer.append(b"late")
            chunks = [*chunks, b"late"]
    assert out == b"".join(chunks)
    assert copied(buffer, 10) == b""


def test_many_small_chunks_do_not_stay() -> None:
    buffer = SendBuffer()
    for _ in range(200):
        buffer.append(b"ab")
    copied(buffer, 301)
    assert len(buffer.chunks) < 60
    assert len(copied(buffer, 1000)) == 99
    assert not buffer.chunks


def test_a_chunk_is_referenced_not_copied() -> None:
    buffer, chunk = SendBuffer(), bytearray(b"before")
    buffer.append(chunk)
    chunk[:] = b"behind"
    assert copied(buffer, 6) == b"behind"


def test_clear_forgets_everything() -> None:
    buffer = SendBuffer()
    buffer.append(b"abc")
    copied(buffer, 1)
    buffer.clear()
    assert buffer.size == 0
    buffer.append(b"xyz")
    assert copied(buffer, 9) == b"xyz"


def test_what_was_opened_keeps_no_view_once_cleared() -> None:
    memory = bytearray(4)
    key, view = KeyId(Stage.APPLICATION), memoryview(memory)
    stream = StreamOpened(application=view, kind=UnitKind.CONTROL, key=key, unit=view[1:])
    datagrams = Opened([view], UnitKind.HANDSHAKE, key, 0, view[1:], failed=3)
    stream.clear()
    datagrams.clear()
    assert (stream, datagrams) == (StreamOpened(), Opened())
    view.release()
    memory.append(0)  # a memory with views into it could not grow
