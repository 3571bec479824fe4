"""Virtual time: exact, in order, still while threads work, and never for ever."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from taps_security.simulation import Deadlock, Network, VirtualLoop, run
from tests.simulation.support import listen


def now() -> float:
    return asyncio.get_running_loop().time()


def test_sleeping_takes_virtual_time_alone() -> None:
    async def main(network: Network) -> float:
        assert now() == 0.0
        await asyncio.sleep(86_400 * 365)
        return now()

    before = time.monotonic()
    assert run(main) == 86_400 * 365
    assert time.monotonic() - before < 5


def test_delays_end_on_whole_nanoseconds() -> None:
    async def main(network: Network) -> list[float]:
        seen = []
        for _ in range(10):
            await asyncio.sleep(0.1)
            seen.append(now())
        return seen

    assert run(main) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_call_at_is_taken_as_it_is_and_never_early() -> None:
    odd = 0.1 + 0.2  # 0.30000000000000004

    async def main(network: Network) -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()
        loop.call_at(odd, lambda: seen.append(("odd", loop.time())))
        loop.call_at(0.3, lambda: seen.append(("even", loop.time())))
        await asyncio.sleep(1)
        return seen

    assert run(main) == [("even", 0.3), ("odd", odd)]


def test_a_deadline_between_nanoseconds_is_reached() -> None:
    """Who asks for the rest of the time until it has passed must get there."""

    async def main(network: Network) -> float:
        await asyncio.sleep(0.2)
        deadline = now() + 0.1
        while now() < deadline:
            await asyncio.sleep(deadline - now())
        return now()

    assert run(main) == 0.1 + 0.2


def test_timers_of_one_instant_keep_their_order() -> None:
    async def main(network: Network) -> list[int]:
        seen: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(100):
            loop.call_at(1.0, seen.append, number)
        await asyncio.sleep(1)
        return seen

    assert run(main) == list(range(100))


def test_timeouts_and_waits_work() -> None:
    async def main(network: Network) -> list[float]:
        seen = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.25):
                await asyncio.get_running_loop().create_future()
        seen.append(now())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.25)
        seen.append(now())
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
        seen.append(now())
        return seen

    assert run(main) == [0.25, 0.5, 2.5]


def test_the_clock_stands_while_a_thread_works() -> None:
    def work() -> str:
        time.sleep(0.05)
        return "done"

    async def main(network: Network) -> float:
        async with asyncio.timeout(0.001):
            assert await asyncio.to_thread(work) == "done"
        assert await asyncio.get_running_loop().run_in_executor(None, work) == "done"
        return now()

    assert run(main) == 0.0


def test_the_clock_stands_for_a_job_whose_waiter_has_gone() -> None:
    done = threading.Event()

    async def main(network: Network) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.to_thread(lambda: (time.sleep(0.05), done.set()))
        await asyncio.sleep(1)
        assert done.is_set()

    run(main)


def test_a_failing_job_lets_the_clock_go_on() -> None:
    async def main(network: Network) -> float:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        await asyncio.sleep(3)
        return now()

    assert run(main) == 3.0


def test_a_thread_of_your_own_may_wake_the_loop() -> None:
    async def main(network: Network) -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        woken = asyncio.Event()
        thread = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(woken.set))
        thread.start()
        with loop.standing_still():
            async with asyncio.timeout(0.001):
                await woken.wait()
        thread.join()
        return now()

    assert run(main) == 0.0


def test_waiting_for_nothing_is_an_error_that_names_the_tasks() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main(network: Network) -> None:
        await asyncio.sleep(2)
        await asyncio.create_task(stuck(), name="the stuck one")

    with pytest.raises(Deadlock, match=r"at 2\.0 s .*seed 7.*stuck one .*stuck\).*test_loop\.py:\d+") as caught:
        run(main, seed=7)
    assert "simulation seed: 7" in caught.value.__notes__


def test_every_failure_tells_the_seed() -> None:
    async def main(network: Network) -> None:
        raise AssertionError("of the program")

    with pytest.raises(AssertionError) as caught:
        run(main, seed=42)
    assert caught.value.__notes__ == ["simulation seed: 42"]


def test_the_wall_clock_goes_with_the_virtual_time_from_where_it_was_put() -> None:
    async def main(network: Network) -> tuple[float, float]:
        clock = network.loop.taps_environment.wall_clock
        begun = clock()
        await asyncio.sleep(86_400)
        return begun, clock()

    assert run(main, starts_at=1e9) == (1e9, 1e9 + 86_400)
    begun, ended = run(main)
    assert abs(begun - time.time()) < 60
    assert ended - begun == pytest.approx(86_400)


def test_randomness_comes_from_the_seed_and_faults_do_not_move_it() -> None:
    def octets(seed: int, faults: int) -> bytes:
        async def main(network: Network) -> bytes:
            for _ in range(faults):
                network.random.random()
            random = network.loop.taps_environment.random
            return random(16) + random(16)

        return run(main, seed=seed)

    assert octets(1, 0) == octets(1, 5) != octets(2, 0)
    assert len(set(octets(1, 0))) > 16


def test_a_runner_takes_it_as_any_loop() -> None:
    async def main() -> float:
        await asyncio.sleep(5)
        return now()

    with asyncio.Runner(loop_factory=VirtualLoop, debug=True) as runner:
        assert runner.run(main()) == 5.0
        assert runner.run(main()) == 10.0


def test_only_simulated_sockets_are_watched() -> None:
    async def main(network: Network) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ValueError, match="0 is no open simulated socket"):
            loop.add_reader(0, print)
        with pytest.raises(ValueError, match="only the sockets of its own network"):
            loop.add_reader(object(), print)  # type: ignore[arg-type]
        listener = listen(80)
        number = listener.fileno()
        loop.add_reader(number, print)
        assert loop.remove_reader(listener) is True
        assert loop.remove_reader(number) is False
        assert loop.remove_writer(number) is False
        listener.close()
        assert listener.fileno() == -1
        with pytest.raises(OSError, match="descriptor"):
            loop.add_reader(listener, print)

    run(main)


def test_closing_what_is_watched_is_a_bug() -> None:
    async def main(network: Network) -> None:
        listener = listen(80)
        asyncio.get_running_loop().add_reader(listener, print)
        with pytest.raises(RuntimeError, match="closed before remove_reader"):
            listener.close()
        assert network.open_sockets() == []

    run(main)


def test_getaddrinfo_asks_the_simulated_resolver() -> None:
    async def main(network: Network) -> None:
        network.names.add("server.example", "192.0.2.1", delay=0.5)
        found = await asyncio.get_running_loop().getaddrinfo("server.example", 80, type=1)
        assert found == [(2, 1, 0, "", ("192.0.2.1", 80))]
        assert now() == 0.5

    run(main)
