"""Memory that connections of a loop share."""

from __future__ import annotations

import asyncio

import pytest

from taps_security.transport.buffers import ReceiveBuffers, Slabs, shared_buffers


def test_a_buffer_that_nobody_holds_is_lent_again() -> None:
    buffers = ReceiveBuffers(1000)
    view = buffers.borrow()
    assert len(view) == 1000
    assert not view.readonly
    first = id(view.obj)
    del view
    for _ in range(5):
        view = buffers.borrow()
        assert id(view.obj) == first
        assert len(view) == 1000
        del view


def test_a_kept_view_makes_the_next_borrower_read_into_another_buffer() -> None:
    buffers = ReceiveBuffers(1000, 2)
    view = buffers.borrow()
    view[:4] = b"kept"
    kept = view[:4]
    del view
    other = buffers.borrow()
    other[:4] = b"more"
    assert other.obj is not kept.obj
    assert kept == b"kept"
    first = id(kept.obj)
    del kept
    again = buffers.borrow()
    assert id(again.obj) == first  # given back by dropping the view


def test_buffers_that_stay_lent_are_forgotten() -> None:
    buffers = ReceiveBuffers(100, 3)
    held = [buffers.borrow() for _ in range(10)]
    assert len({id(view.obj) for view in held}) == 10
    assert len(buffers._buffers) == 3
    for number, view in enumerate(held):
        view[0] = number
    assert [view[0] for view in held] == list(range(10))


def test_slabs_come_back_and_only_some_are_kept() -> None:
    slabs = Slabs(512, free=2)
    lent = [slabs.lend() for _ in range(4)]
    assert len({id(slab.buffer) for slab in lent}) == 4
    assert all(len(slab.view) == len(slab.buffer) == 512 for slab in lent)
    lent[1].layout = "slices made before"
    for slab in lent:
        slabs.give_back(slab)
    again = [slabs.lend() for _ in range(3)]
    assert [any(slab is one for one in lent) for slab in again] == [True, True, False]
    assert again[0].layout == "slices made before"


@pytest.mark.both_loops
async def test_each_loop_has_its_own() -> None:
    loop = asyncio.get_running_loop()
    assert shared_buffers(loop) is shared_buffers(loop)
    other = asyncio.new_event_loop()
    assert shared_buffers(other) is not shared_buffers(loop)
    other.close()
