"""From the request to a usable server on an idle SLURM cluster, against plain ``sbatch`` and batchspawner 1.3.0.

The same small server each time. By hand it is one ``sbatch`` of a script that starts it on a port that is known before.
The peer is spared its report of the port, too; ours has all of it: helper, record, launcher, report, first answer.
"""

from __future__ import annotations

import asyncio
import shlex
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from urllib.error import URLError

from tests.bench.slurm_cluster import TRAITS, USER, Found, Side, cluster, row, sides
from tests.bench.slurm_starts import Starts, starts
from tests.servers import tiny_server
from tests.servers.ports import free_port
from tests.servers.reachable_python import reachable_python
from tests.servers.slurm.rig import Slurm

GOAL = "P5-usable"
ROUNDS = 5
NODE, PATH = "cpu1", "/user/ada/"
MOST = 1.25
"""Times the request by hand; chosen before the first measurement, as for Kubernetes."""
LOOK_EVERY_S = 0.02
SETTLED_S = 2.0
"""A job that is submitted at once after another one's end begins half a second later, or more (seen; why was not looked
into). Without this pause that would fall on whoever follows the side whose job ends soonest."""
SCRIPT = """#!/bin/sh
#SBATCH --mem=512 --partition=cpu --output=/dev/null --chdir=/
export JUPYTERHUB_SERVICE_URL={url}
. {server}
"""
SIDES = ("plain", "ours", "peer", "tuned")


def parts(long: bool = False) -> list[Callable[[], list[Found]]]:
    """One part: a cluster on which nothing else runs."""
    return [partial(measure, ROUNDS)]


def measure(rounds: int) -> list[Found]:
    """The sides in turns; one start each before that counts for none."""
    with cluster() as slurm, sides(slurm, "peer", "tuned") as peers:
        return asyncio.run(_measure(slurm, peers, rounds))


async def _measure(slurm: Slurm, peers: Mapping[str, Side], rounds: int) -> list[Found]:
    found: dict[str, list[float]] = {name: [] for name in SIDES}
    async with starts(slurm) as place:
        for turn in range(rounds + 1):
            for name in SIDES:
                if name == "ours":
                    took_s = await _ours(place)
                elif name == "plain":
                    took_s = await asyncio.to_thread(_plain, slurm)
                else:
                    took_s = await asyncio.to_thread(_peer, slurm, peers[name], turn)
                await asyncio.to_thread(_clear, slurm)
                if turn:
                    found[name].append(took_s)
    return usable_rows(found)


def _clear(slurm: Slurm) -> None:
    """End what runs, and wait until the nodes are free of it, and a little: the next side must find an idle cluster."""
    slurm.run("scancel", f"--user={USER}")
    slurm.until(lambda: not slurm.run("squeue", "--noheader", f"--user={USER}").strip(), what="no job is left")
    words = ("sinfo", "--noheader", "--Node", "--format=%T")
    slurm.until(lambda: set(slurm.run(*words).split()) == {"idle"}, what="all nodes are idle")
    time.sleep(SETTLED_S)


async def _ours(place: Starts) -> float:
    began = time.perf_counter()
    await asyncio.wait_for(place.begin(), 60)
    return time.perf_counter() - began


def _script(slurm: Slurm) -> tuple[str, str]:
    """The script that a person would write, and where its server will answer."""
    host = slurm.addresses[NODE]
    url = f"http://{host}:{free_port()}{PATH}"
    # In a file: its braces would be the peer's own, who fills in templates.
    server = slurm.root / "server.sh"
    server.write_text(f"exec {shlex.join(tiny_server.program(reachable_python()))}\n")
    return SCRIPT.format(url=url, server=server), url


def _plain(slurm: Slurm) -> float:
    script, url = _script(slurm)
    began = time.perf_counter()
    slurm.run("sbatch", "--parsable", user=USER, given=script)
    while time.perf_counter() - began < 60:
        try:
            tiny_server.get(f"{url}api")
        except (URLError, OSError):
            time.sleep(LOOK_EVERY_S)
        else:
            return time.perf_counter() - began
    raise RuntimeError(f"No answer at {url} within 60 s")


def _peer(slurm: Slurm, side: Side, turn: int) -> float:
    script, url = _script(slurm)
    took_s: float = side.ask("usable", USER, {**TRAITS[side.name], "startup_poll_interval": 0.5}, script, url, turn)[
        "usable_s"
    ]
    return took_s


def usable_rows(found: Mapping[str, Sequence[float]]) -> list[Found]:
    """Ours against by hand, and against each kind of peer."""
    took = {name: statistics.median(some) for name, some in found.items()}
    told = ", ".join(f"{name} {took[name]:.2f} s ({min(some):.2f} to {max(some):.2f})" for name, some in found.items())
    about = (
        f"one start at a time on an idle cluster, median of {len(found['ours'])}, in turns: {told}; the same small "
        "server; batchspawner 1.3.0 as installed and without sudo, both looking every 0.5 s, with a port that is known "
        "before instead of its report of one; by hand the server is looked for every 20 ms"
    )
    ours = took["ours"]
    rows = [
        row(GOAL, "request to usable, against plain sbatch", "s", ours, took["plain"], f"<= {MOST:g} x",
            ours <= MOST * took["plain"], about),
    ]  # fmt: skip
    for name in ("peer", "tuned"):
        words = f"request to usable, {'peer as installed' if name == 'peer' else 'peer without sudo'}"
        rows.append(row(GOAL, words, "s", ours, took[name], ">= 1 x", took[name] >= ours, about))
    return rows
