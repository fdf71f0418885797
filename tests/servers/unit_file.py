"""A service of systemd's, run by its unit file where systemd itself is not: same command, account, capabilities.

Of ``ProtectSystem=strict``, ``ProtectProc=`` and ``PrivateTmp=`` is done what systemd does; but /var/tmp stays, where
tests have their files.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.servers.slurm.login_host import LoginHost

NO_NEW_PRIVILEGES = {
    "DynamicUser", "LockPersonality", "MemoryDenyWriteExecute", "NoNewPrivileges", "PrivateDevices", "ProtectClock",
    "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "RestrictAddressFamilies",
    "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallFilter",
    "SystemCallLog",
}  # fmt: skip
"""Settings with which a service of another account than root can use no setuid program (systemd.exec(5))."""
KNOWN = {
    "Type", "User", "Group", "EnvironmentFile", "Environment", "WorkingDirectory", "StateDirectory",
    "StateDirectoryMode", "UMask", "ExecStart", "Restart", "RestartSec", "KillMode", "TimeoutStopSec",
    "AmbientCapabilities", "CapabilityBoundingSet", "ProtectSystem", "ReadWritePaths", "PrivateTmp",
    "ProtectControlGroups", "ProtectProc",
}  # fmt: skip
"""What is done here, or concerns only what systemd does when a service has ended."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Arguments: the folders that stay writable, one word; then the umask, the working directory, and the command.
SANDBOX = """
set -e
writable=$1 mask=$2 there=$3
shift 3
cut -d' ' -f5 /proc/self/mountinfo | while read -r point; do
    case $point in /dev|/dev/*|/proc|/proc/*|/sys|/sys/*) continue ;; esac
    mount -o remount,bind,ro "$point" 2>/dev/null || true
done
for folder in $writable; do
    mount --bind "$folder" "$folder"
    mount -o remount,bind,rw "$folder"
done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t proc -o hidepid=invisible proc /proc
umask "$mask"
cd "$there"
exec "$@"
"""


def sections(text: str) -> dict[str, dict[str, str]]:
    """Section → key → value; a key that is there twice is an error."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            assert key not in section, key
            section[key] = value
    return found


def assignments(text: str) -> dict[str, str]:
    """An environment file."""
    lines = [line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {name: value.strip('"') for name, _, value in lines}


class Unit:
    """The service of one unit file of a login host."""

    def __init__(self, host: LoginHost, name: str, log: Path) -> None:
        self.host, self.name, self.log = host, name, log
        self.path = f"/etc/systemd/system/{name}.service"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Mapping[str, str]:
        """The section [Service]. Fails where there is something that is not done here."""
        service = sections(self.host.path(self.path).read_text())["Service"]
        assert set(service) <= KNOWN, set(service) - KNOWN
        return service

    def start(self) -> None:
        """As ``systemctl start``."""
        service = self.settings
        user, group = service["User"], service["Group"]
        state = f"/var/lib/{service['StateDirectory']}"
        made = self.host.ask("install", "-d", "-o", user, "-g", group, "-m", service["StateDirectoryMode"], state)
        assert made.returncode == 0, made.stdout
        env = {"PATH": PATH, "LANG": "C.UTF-8", "USER": user, "LOGNAME": user, "SHELL": "/bin/sh"}
        env["HOME"] = self.host.ask("sh", "-c", f"getent passwd {user} | cut -d: -f6").stdout.strip()
        env |= assignments(self.host.path(service["EnvironmentFile"]).read_text())
        keep = [word.removeprefix("CAP_").lower() for word in service["CapabilityBoundingSet"].split()]
        ambient = [word.removeprefix("CAP_").lower() for word in service["AmbientCapabilities"].split()]
        bounding = ",".join(["-all", *(f"+{word}" for word in keep)])
        raised = ",".join(["-all", *(f"+{word}" for word in ambient)])
        become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups"]
        become += [f"--bounding-set={bounding}", f"--inh-caps={raised}", f"--ambient-caps={raised}"]
        done_here = (service["ProtectSystem"], service["PrivateTmp"], service["ProtectProc"])
        assert done_here == ("strict", "yes", "invisible")
        writable = " ".join([state, *service.get("ReadWritePaths", "").split()])
        argv = [*self.host.words, "unshare", "--mount", "sh", "-c", SANDBOX, "sh"]
        argv += [writable, service["UMask"], service["WorkingDirectory"], *become, *shlex.split(service["ExecStart"])]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self) -> None:
        """As ``systemctl stop``: by ``KillMode=mixed`` it ends what it has started; what is left is killed."""
        if self.process is None:
            return
        service, process = self.settings, self.process
        assert service["KillMode"] == "mixed"
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(float(service["TimeoutStopSec"]))
        finally:
            self.process = None
            process.kill()
            for pid in self.host.pids(self.host.uid(service["User"])):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def verify(self) -> str:
        """What ``systemd-analyze verify`` has to say; fails where it refuses the file."""
        done = self.host.ask("systemd-analyze", "verify", "--man=no", self.path)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def exposure(self) -> float:
        """The score of ``systemd-analyze security``: 0 is best, 10 worst."""
        done = self.host.ask("systemd-analyze", "security", "--offline=yes", "--no-pager", self.path)
        return float(done.stdout.split("Overall exposure level for")[1].split(":")[1].split()[0])
