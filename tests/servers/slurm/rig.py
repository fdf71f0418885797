"""One SLURM cluster: munge, MariaDB, slurmdbd, two controllers, two nodes, slurmrestd; nothing is faked.

People, host names and SLURM's settings are in the /etc of its world. Who uses it runs there by ``login``.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.servers.kubernetes.program import Program, write
from tests.waiting import PATIENCE, until_blocking

from . import misled
from .daemons import PATH, REST_UID, Daemons
from .settings import CLUSTER, HOSTS, NODES, REST, gres_conf, slurm_conf, slurmdbd_conf
from .world import World

TIM = "tim"
PEOPLE = {"ada": 20001, "bob": 20002, "eve": 20004, TIM: 20041}
LAB, LAB_GID = "lab", 30001
"""Everybody's account in SLURM and first group."""
BEAM, KID, FAST = "beam", "beamkid", "fast"
"""Two accounts more, the second below the first, and a QOS: bob may use the first and the QOS, eve the second."""
FAST_S = 40 * 60
TIMS_QOS = {"tplain": "", "tbrief": "MaxWall=30", "tlong": "MaxWall=90", "tover": "MaxWall=150 Flags=OverPartQOS",
            "tpast": "MaxWall=200 Flags=PartitionTimeLimit", "tfree": "Flags=PartitionTimeLimit",
            "tdeny": "MaxWall=30 Flags=DenyOnLimit", "tpart": "MaxWall=100"}  # fmt: skip
"""QOS with and without bounds on time, in minutes, which Tim alone may use; and his association has a bound."""
ASSOCIATIONS = f"""add qos {FAST} MaxWall={FAST_S // 60}
{chr(10).join(f"add qos {name} {bounds}" for name, bounds in TIMS_QOS.items())}
add cluster {CLUSTER}
add account {LAB},{BEAM}
add account {KID} parent={BEAM}
add user {",".join(PEOPLE)} account={LAB}
add user bob account={BEAM}
add user eve account={KID}
modify user where name=bob account={LAB} set qos+={FAST}
modify account where name={KID} set maxwall=200
modify user where name={TIM} account={LAB} set qos={",".join(TIMS_QOS)} defaultqos=tbrief maxwall=45
"""
LEADS = b"Running as primary controller"
"""What a controller's log says when it answers as the one that leads."""


class Refused(Exception):
    """Raised when a program failed; the text is what it said."""


class Slurm:
    """The cluster. ``start`` blocks until jobs can run; all ends with ``stop`` or with this process."""

    def __init__(self, more: str = "", debian: Path | None = None) -> None:
        """``more``: further lines of slurm.conf. ``debian``: the folder of another Debian, whose SLURM it is to be."""
        self.world = World(HOSTS, debian)
        self.root, self.addresses = self.world.root, self.world.addresses
        self.homes = self.root / "homes"
        self.daemons = Daemons(self.world)
        self._more = more

    @cached_property
    def version(self) -> tuple[int, int]:
        """(22, 5) or (24, 11)."""
        year, month = self.run("sinfo", "--version").split()[-1].split(".")[:2]
        return int(year), int(month)

    @property
    def rest_url(self) -> str:
        """Where slurmrestd answers."""
        return f"http://{self.addresses[REST]}:{self.world.ports['rest']}"

    def start(self) -> Slurm:
        """Start everything. Raises NotStarted with the end of the log of the program that failed."""
        try:
            self._start()
        except BaseException:
            # The logs stay until another cluster starts.
            self.stop(keep=True)
            raise
        return self

    def _start(self) -> None:
        self.world.start()
        self._write()
        daemons = self.daemons
        with ThreadPoolExecutor(1) as meanwhile:
            tables = meanwhile.submit(daemons.make_tables)
            daemons.munge.start()
            self._add_entries(PEOPLE, LAB_GID)
            tables.result()
        daemons.mariadb.start()
        daemons.munge.wait()
        daemons.mariadb.wait()
        daemons.database.start()
        daemons.database.wait()
        self._add_associations()
        second = daemons.controllers[1]
        for program in (*daemons.nodes.values(), daemons.rest):
            program.start()
        self._lead()
        second.start()
        for program in daemons.all:
            program.wait()
        self.until(self._usable, what="all nodes are idle")

    def _lead(self) -> None:
        """Start the first controller and wait until it leads.

        It writes the cluster's name into their folder, and the second one must not read half of it; and 24.11's first
        waits for half a minute for a second one that comes while it looks for one.
        """
        first = self.daemons.controllers[0]
        begun = first.log.stat().st_size if first.log.exists() else 0
        first.start()
        first.wait()
        self.until(lambda: LEADS in first.log.read_bytes()[begun:], what="the first controller leads")

    def _write(self) -> None:
        for folder in ("state", "run", "homes"):
            (self.root / folder).mkdir()
        (self.root / "munge").mkdir(mode=0o755)
        for node in NODES:
            (self.root / f"spool-{node.name}").mkdir(mode=0o755)
            for number in range(node.gpus):
                os.mknod(self.root / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        for path in (self.root / "munge" / "key", self.root / "jwt.key"):
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(64))
        etc = self.world.etc / "slurm"
        (etc / "slurm.conf").write_text(slurm_conf(self.world, self._more))
        (etc / "gres.conf").write_text(gres_conf(self.root))
        write(etc / "slurmdbd.conf", slurmdbd_conf(self.world))
        with (self.world.etc / "passwd").open("a") as passwd:
            passwd.write(f"slurmrest:x:{REST_UID}:{REST_UID}::/nonexistent:/usr/sbin/nologin\n")
        with (self.world.etc / "group").open("a") as group:
            group.write(f"slurmrest:x:{REST_UID}:\n{LAB}:x:{LAB_GID}:\n")

    def _usable(self) -> bool:
        states = self.run("sinfo", "--noheader", "--Node", "--format=%T").split()
        return bool(states) and set(states) == {"idle"}

    def stop(self, *, keep: bool = False) -> None:
        """End everything and leave nothing; with ``keep`` its files, until another cluster starts."""
        self.world.stop(keep=keep)
        for program in self.daemons.all:
            program.stop(signal.SIGKILL)

    # People

    def _add_entries(self, people: Mapping[str, int], gid: int) -> None:
        with (self.world.etc / "shadow").open("a") as shadow:
            # sudo asks whether an account may be used.
            shadow.writelines(f"{name}:*:19000:0:99999:7:::\n" for name in people)
        with (self.world.etc / "passwd").open("a") as passwd:
            for name, uid in people.items():
                home = self.homes / name
                home.mkdir(mode=0o700)
                os.chown(home, uid, gid)
                passwd.write(f"{name}:x:{uid}:{gid}:{name.title()}:{home}:/bin/bash\n")

    def add_group(self, name: str, gid: int, *members: str) -> None:
        """A group more."""
        with (self.world.etc / "group").open("a") as group:
            group.write(f"{name}:x:{gid}:{','.join(members)}\n")

    def allow_sudo(self, name: str, rule: str) -> None:
        """A file of sudo's rules."""
        path = write(self.world.etc / "sudoers.d" / name, f"{rule}\n")
        path.chmod(0o440)

    def _add_associations(self) -> None:
        """Before a controller runs: what is added later, its controllers hear only when they start anew."""
        said = self.run("sacctmgr", "--immediate", given=ASSOCIATIONS)
        if "rror" in said or said.count("Associations =") < 3:
            raise Refused(f"sacctmgr: {said}")

    def add_person(self, name: str, uid: int, *, gid: int = LAB_GID, account: str = LAB) -> None:
        """Somebody more: a line of passwd, a home, and with ``account`` the right to submit there."""
        self._add_entries({name: uid}, gid)
        if account:
            self.run("sacctmgr", "--immediate", "add", "user", name, f"account={account}")

    # Use

    def login(self, user: str = "") -> list[str]:
        """The words before an argv that run it on the login host, as root or as a user; process ids are as outside."""
        become = ["setpriv", f"--reuid={user}", f"--regid={LAB_GID}", "--init-groups", "--reset-env"] if user else []
        return [*self.world.login(), *become]

    def ask(
        self, *argv: str, user: str = "", given: str = "", within_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the login host, whatever comes of it."""
        return subprocess.run(
            [*self.login(user), *argv], input=given, capture_output=True, text=True, check=False,
            timeout=within_s * PATIENCE, env={"PATH": PATH}, cwd="/",
        )  # fmt: skip

    def run(self, *argv: str, user: str = "", given: str = "") -> str:
        """What a program printed on the login host. Raises Refused."""
        done = self.ask(*argv, user=user, given=given)
        if done.returncode:
            raise Refused(f"{' '.join(argv)}: {done.stdout[-1000:]}{done.stderr.strip()}")
        return done.stdout

    def submit(self, script: str, *options: str, user: str = "ada") -> str:
        """Submit a shell script; returns the job's id."""
        words = ["sbatch", "--parsable", f"--chdir={self.homes / user}", *options]
        return self.run(*words, user=user, given=f"#!/bin/sh\n{script}\n").strip()

    def job(self, job: str) -> dict[str, Any]:
        """What squeue says of a job."""
        answer = json.loads(self.run("squeue", "--json", "--states=all", "--jobs", job))
        here: list[dict[str, Any]] = [one for one in answer["jobs"] if str(one["job_id"]) == job]
        if not here:
            raise Refused(f"squeue has no job {job} among {len(answer['jobs'])}; errors: {answer['errors']}")
        return {key: _as_in_22_05(value) for key, value in here[0].items()}

    def in_state(self, job: str, *states: str) -> dict[str, Any]:
        """The job, once it is in one of the states."""

        def there() -> dict[str, Any] | None:
            seen = self.job(job)
            return seen if seen["job_state"] in states else None

        found: dict[str, Any] = self.until(there, what=f"job {job} is {' or '.join(states)}")
        return found

    def token(self, user: str, lifespan_s: int = 600) -> str:
        """A JWT with which slurmrestd takes its bearer for the user."""
        said = self.run("scontrol", "token", f"username={user}", f"lifespan={lifespan_s}")
        return said.strip().removeprefix("SLURM_JWT=")

    # Faults; each is over when its block ends, and the cluster answers again

    @contextmanager
    def settings(self, change: Callable[[str], str], *, anew: bool = False) -> Iterator[None]:
        """Another slurm.conf, in force; some of it is only once the controllers start ``anew``. Either way they forget
        partitions that were made meanwhile."""
        path = self.world.etc / "slurm" / "slurm.conf"
        before = path.read_text()
        try:
            self._take(path, change(before), anew)
            yield
        finally:
            self._take(path, before, anew)

    def _take(self, path: Path, text: str, anew: bool) -> None:
        if anew:
            with self.refused():
                path.write_text(text)
        else:
            path.write_text(text)
            self.run("scontrol", "reconfigure")

    @contextmanager
    def refused(self) -> Iterator[None]:
        """No controller runs: connections are refused. Jobs go on. What it knew is saved."""
        controllers = self.daemons.controllers
        for program in reversed(controllers):
            program.stop(signal.SIGTERM)
        try:
            yield
        finally:
            self._lead()
            controllers[1].start()
            controllers[1].wait()
            self.until(self._answers, what="the controllers are back")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Controllers take connections and say nothing."""
        with self._paused(*self.daemons.controllers):
            yield

    def wait_saved(self, job: str) -> None:
        """Wait until a job, as it is now, is in the state that controllers share.

        It is written seconds after each change. Of a controller that is killed before, the next one does not know
        younger jobs, and lets those run again whose end it has not read.
        """
        mark = f"saved-{secrets.token_hex(8)}"
        words = ["scontrol", "update", f"jobid={job}", f"admincomment={mark}"]
        # Refused as long as the database has not given the job its number.
        self.until(lambda: self.run(*words) == "", what=f"job {job} can be changed")
        path = self.root / "state" / "job_state"
        self.until(lambda: path.exists() and mark.encode() in path.read_bytes(), what=f"job {job} is saved")

    @contextmanager
    def without_first_controller(self) -> Iterator[None]:
        """The first controller is killed: the second one answers after TAKE_OVER_S, as of what the first has saved.

        At the end the first takes over again by itself. From 24.11's second one only after half a minute, so that
        one ends before.
        """
        first, second = self.daemons.controllers
        first.stop(signal.SIGKILL)
        try:
            yield
        finally:
            if self.version > (22, 5):
                second.stop(signal.SIGTERM)
            self._lead()
            if not second.running:
                second.start()
                second.wait()
            self.until(lambda: "ctl1 is UP" in self.run("scontrol", "ping"), what="the first controller is back")
            self.until(self._answers, what="it has taken over")

    @contextmanager
    def without_munge(self) -> Iterator[None]:
        """Nobody can prove who he is: munged and its socket are gone."""
        munge = self.daemons.munge
        munge.stop(signal.SIGTERM)
        try:
            yield
        finally:
            munge.start()
            munge.wait()
            self.until(self._answers, what="munge is back")

    def without_settings(self) -> AbstractContextManager[None]:
        """The programs find no slurm.conf."""
        return misled.without_settings(self.world)

    def reset(self) -> AbstractContextManager[None]:
        """Programs that ask a controller are reset. The cluster's own daemons go on."""
        return misled.reset(self.world)

    def unresolved(self) -> AbstractContextManager[None]:
        """Programs cannot resolve the controllers' names. The cluster's own daemons go on."""
        return misled.unresolved(self.world)

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """slurmdbd is gone: sacct and sacctmgr fail, jobs go on and are accounted for afterwards."""
        # Asked to end, it waits for the controllers' connections.
        self.daemons.database.stop(signal.SIGKILL)
        try:
            yield
        finally:
            self.daemons.database.start()
            self.daemons.database.wait()

    @contextmanager
    def lost_node(self, name: str) -> Iterator[None]:
        """A node crashed, and the controllers know: its jobs are requeued or end with NODE_FAIL."""
        node = self.daemons.nodes[name]
        node.stop(signal.SIGKILL)
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=lost")
        try:
            yield
        finally:
            node.start()
            node.wait()
            # ReturnToService=2: it comes back when it registers.
            words = ["sinfo", "--noheader", f"--nodes={name}", "--format=%T"]
            self.until(lambda: set(self.run(*words).split()) <= {"idle", "mixed"}, what=f"{name} is back")

    @contextmanager
    def _paused(self, *programs: Program) -> Iterator[None]:
        for program in programs:
            program.pause()
        try:
            yield
        finally:
            for program in programs:
                program.resume()
            self.until(self._answers, what="it answers again")

    def _answers(self) -> bool:
        return self.ask("squeue", "--noheader").returncode == 0

    def until(self, condition: Callable[[], Any], *, within_s: float = 60, what: str = "") -> Any:
        """Ask until the condition is true and return it. What is refused meanwhile counts as not yet. Blocks."""
        told = f"{what or condition}; logs: {self.world.logs}"
        return until_blocking(condition, refused=Refused, within_s=within_s, what=told)


def _as_in_22_05(value: Any) -> Any:
    """A field of squeue's JSON: since 23.02 numbers are objects, and a state is a list with its flags."""
    if isinstance(value, dict) and "number" in value:
        return value["number"] if value["set"] else None
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "COMPLETING" if "COMPLETING" in value else value[0]
    return value
