"""The arithmetic and the verdicts of the benchmarks; no test asserts a time."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import rows, table
from benchmarks.clock import proportional_set_size, rate, rate_of_many
from benchmarks.credentials import write_credentials
from benchmarks.harness import MeasurementError, Sample, answer, measure, measure_in_turn, spawn, write_json
from benchmarks.jobs import Job

ROW_KEYS = {"work", "unit", "ours", "peer", "theirs", "ratio", "target", "met", "runs", "spread"}


def sample(*values: float) -> Sample:
    return Sample(list(values))


def group(sense: rows.Sense = "at least", target: float | None = 2.0) -> rows.Group:
    row = rows.Row("work", "us", ("slow", "fast"), target)
    return rows.Group("name", "Gbit/s", 8e-9, sense, (), (row,))


def test_median_and_spread() -> None:
    assert sample(3.0).median == 3.0
    assert sample(3.0).spread == 0.0
    assert sample(1.0, 2.0, 3.0, 4.0, 5.0).median == 3.0
    assert sample(1.0, 2.0, 3.0, 4.0, 5.0).spread == pytest.approx(2 / 3)
    assert sample(5.0, 1.0, 1000.0).median == 5.0


def test_candidates_take_turns_and_turn_round() -> None:
    order: list[str] = []

    def candidate(name: str) -> float:
        order.append(name)
        return float(len(order))

    samples = measure_in_turn({name: (lambda name=name: candidate(name)) for name in "abc"}, rounds=3)
    assert "".join(order) == "abccbaabc"
    assert samples["a"].values == [1.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("sense", "target", "ours", "met"),
    [
        ("at least", 2.0, 8.0, True),
        ("at least", 2.0, 7.9, False),
        ("at most", 2.0, 4.0, True),
        ("at most", 2.0, 4.1, False),
        ("at least", None, 1.0, None),
    ],
)
def test_the_best_peer_counts(sense: rows.Sense, target: float | None, ours: float, met: bool | None) -> None:
    samples = {"us": sample(ours), "slow": sample(2.0), "fast": sample(4.0)}
    made = group(sense, target)
    found = rows.result(made, made.rows[0], samples)
    assert found.met is met
    assert found.peer == ("fast" if sense == "at least" else "slow")


def test_missed_rows_decide() -> None:
    made = group()
    good = rows.result(made, made.rows[0], {"us": sample(9.0), "slow": sample(1.0), "fast": sample(2.0)})
    bad = rows.result(made, made.rows[0], {"us": sample(1.0), "slow": sample(1.0), "fast": sample(2.0)})
    unjudged = rows.result(
        group(target=None), group(target=None).rows[0], {n: sample(1.0) for n in ("us", "slow", "fast")}
    )
    assert table.missed([good, unjudged]) == []
    assert table.missed([good, bad, unjudged]) == [bad]


def test_results_for_programs(tmp_path) -> None:
    made = group()
    samples = {"us": sample(9e9), "slow": sample(1e9), "fast": sample(2e9)}
    found = rows.result(made, made.rows[0], samples)
    write_json(tmp_path / "deep" / "results.json", table.as_document([found], {"name": {"us": [9e9]}}))
    document = json.loads((tmp_path / "deep" / "results.json").read_text())
    assert set(document["rows"][0]) >= ROW_KEYS
    assert document["rows"][0]["ours"] == 72.0
    assert document["rows"][0]["ratio"] == 4.5
    assert document["rows"][0]["runs"] == 1


def test_the_table_shows_each_row() -> None:
    from rich.console import Console

    made = group()
    found = rows.result(made, made.rows[0], {"us": sample(1e9), "slow": sample(1e9), "fast": sample(2e9)})
    console = Console(width=160, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    with console.file:
        console.print(table.as_table([found]))
    text = console.export_text()
    for part in ("work", "Gbit/s", "fast", "≥ 2", "MISSED"):
        assert part in text


def test_every_promise_of_the_speed_table_has_a_row() -> None:
    groups = rows.all_groups()
    targets = [(row.work, row.target) for one in groups for row in one.rows if row.target is not None]
    bulk_target = 1.3 if rows.has_avx512() else 1.15
    for promise in (
        ("bulk, lent views", 3.0),
        ("bulk, lent views", bulk_target),
        ("bulk, bytes", 2.6),
        ("bulk, bytes", 1.05),
        ("1 KiB sends, each awaited", 6.0),
        ("full handshakes", 1.3),
        ("64-byte echo, 1 connection", 1.05),
        ("64-byte echo, 50 connections", 1.8),
        ("memory per idle server connection", 0.25),
        ("fresh process to first verified echo", 2.0),
        ("WireGuard, 1,400-byte messages, in batches", 3.0),
        ("WireGuard, 1,400-byte messages, in batches", 0.7),
        ("WireGuard, 1,400-byte messages, one at a time", 0.6),
        ("WireGuard, 64-byte echo", 2.0),
        ("WireGuard, handshakes of one responder", 0.667),
        ("WireGuard, memory per idle peer with keys", 1.0),
    ):
        assert promise in targets
    for one in groups:
        known = {candidate.name for candidate in one.candidates}
        assert len(known) == len(one.candidates)
        for row in one.rows:
            assert {row.ours, *row.peers} <= known


def test_jobs_travel_as_text() -> None:
    job = Job("echo", "benchmarks.peers_ssl", "streams", "uvloop", size=64, count=10, settings={"high": 1})
    assert Job.from_json(job.to_json()) == job
    assert job.on(port=5).port == 5


async def test_rates_count_units() -> None:
    done: list[int] = []

    async def rounds(count: int) -> None:
        done.append(count)

    job = Job("echo", "m", "s", "asyncio", size=64, count=100, warm=10)
    assert await rate(job, rounds) > 0
    assert done == [10, 100]
    done.clear()
    await rate_of_many(job, [rounds, rounds])
    assert done == [5, 5, 50, 50]


def test_memory_is_read_from_smaps_rollup() -> None:
    text = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:   900 kB\nPss:   123 kB\nPss_Dirty:  50 kB\n"
    assert proportional_set_size(text) == 123 * 1024
    with pytest.raises(ValueError, match="Pss"):
        proportional_set_size("Rss: 1 kB\n")


def test_a_failed_process_says_why() -> None:
    process = spawn("benchmarks.worker", "server", "no job")
    assert process.stdout is not None
    with pytest.raises(MeasurementError, match="JSON"):
        answer(process, process.stdout.readline())


@pytest.mark.skipif(sys.platform != "linux", reason="two processes on their own cores need Linux")
@pytest.mark.parametrize("shape", ["streams", "protocol", "buffered"])
@pytest.mark.parametrize("work", ["bulk", "sends", "echo", "handshakes"])
def test_a_pair_of_processes_does_each_work(tmp_path, shape: str, work) -> None:
    write_credentials(tmp_path)
    job = Job(
        work,
        "benchmarks.peers_ssl",
        shape,
        "asyncio",
        size=64,
        count=640,
        warm=64,
        credentials=str(tmp_path),
        mutual=True,
    )
    if work == "handshakes":
        job = job.on(count=2, warm=1)
    assert measure(job) > 0


def test_the_command_knows_its_options() -> None:
    options = command.arguments(["--check", "--runs", "3", "--only", "bulk"])
    assert options.check
    assert options.runs == 3
    assert options.only == ["bulk"]
