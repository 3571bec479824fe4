"""`python -m benchmarks.recovery`: window, round trip and rate over time, each controller on three simulated links.

One picture for each link in benchmarks/plots/, and a table of what the flows got. Virtual time, fixed seeds: the same
pictures on every machine. Needs matplotlib (`pip install 'taps-security[bench]'`) unless --no-plots.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.bottleneck import CONTROLLERS, PACKET, Bottleneck, Flow, flow, jain, rate_between, run, window_between

PLOTS = Path(__file__).resolve().parent / "plots"
SECONDS = 60
FIRST = 10  # the means begin there
EVERY = 0.1  # seconds between two samples
COLOURS = {"new_reno": "#0072b2", "cubic": "#d55e00", "chicago": "#009e73"}

LINKS: dict[str, tuple[str, dict[str, float]]] = {
    "clean": ("100 Mbit/s, 40 ms, queue of one bandwidth-delay product", {}),
    "loss": ("100 Mbit/s, 40 ms, queue of one bandwidth-delay product, 1% random loss", {"loss": 0.01}),
    "deep-queue": (
        "10 Mbit/s, 100 ms, queue of four bandwidth-delay products",
        {"rate": 10e6, "round_trip": 0.100, "queue": 4.0},
    ),
}


def measured(name: str) -> dict[str, tuple[Flow, Bottleneck, float]]:
    """One flow of each controller on the link `name`; with its link, and Jain's index of two flows on another."""
    results = {}
    for controller in CONTROLLERS:
        link = Bottleneck(**LINKS[name][1])
        only = flow(controller, link)
        run([only], SECONDS, EVERY)
        shared = Bottleneck(**LINKS[name][1])
        two = [flow(controller, shared), flow(controller, shared, 0.004, seed=2)]
        run(two, SECONDS, EVERY)
        results[controller] = only, link, jain([rate_between(each, FIRST, SECONDS) for each in two])
    return results


def table(name: str, results: dict[str, tuple[Flow, Bottleneck, float]]) -> str:
    """What the flows got, as text."""
    lines = [LINKS[name][0], "  controller     Mbit/s  of link  window  lost packets  Jain's index of two"]
    for controller, (only, link, index) in results.items():
        rate = rate_between(only, FIRST, SECONDS)
        window = window_between(only, FIRST, SECONDS)
        lines.append(
            f"  {controller:<10} {rate / 1e6:>10.1f} {rate / link.rate:>8.0%} {window:>7.0f}"
            f" {only.lost:>13} {index:>13.3f}"
        )
    return "\n".join(lines)


def draw(name: str, results: dict[str, tuple[Flow, Bottleneck, float]], folder: Path) -> Path:
    """One picture: three rows over time. Where it was written."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = name  # the same names in the file each time
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(3, 1, sharex=True, figsize=(10, 9), layout="constrained")
    figure.suptitle(LINKS[name][0])
    for controller, (only, _, _) in results.items():
        times = [sample.at for sample in only.samples]
        columns: tuple[tuple[Any, list[float]], ...] = (
            (rows[0], [sample.window / PACKET for sample in only.samples]),
            (rows[1], [sample.rtt * 1000 for sample in only.samples]),
            (rows[2], [sample.rate * 8 / 1e6 for sample in only.samples]),
        )
        for axes, values in columns:
            axes.plot(times, values, label=controller, color=COLOURS[controller], linewidth=1)
    for axes, label in zip(rows, ("window, packets", "round trip, ms", "rate, Mbit/s"), strict=True):
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
    flows = [only for only, _, _ in results.values()]
    most = max(sample.window / PACKET for only in flows for sample in only.samples if sample.at > FIRST)
    rows[0].set_ylim(0, 1.2 * most)
    rows[0].legend(loc="upper right")
    rows[2].set_xlabel("seconds")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"recovery-{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def main() -> int:
    """Run, print, draw: the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recovery", description="Congestion control, in pictures."
    )
    parser.add_argument("--link", choices=list(LINKS), action="append", help="only this link; several times")
    parser.add_argument("--no-plots", action="store_true", help="the table alone")
    parser.add_argument("--out", type=Path, default=PLOTS, metavar="FOLDER", help="where the pictures go")
    options = parser.parse_args()
    for name in options.link or LINKS:
        results = measured(name)
        print(table(name, results))
        if not options.no_plots:
            print(f"  -> {draw(name, results, options.out)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
