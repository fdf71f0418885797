"""The helper that becomes a user: real processes, real kernel answers, faults made by taking rights away."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daas_hub.clients import run_as
from tests.servers.reachable_python import reachable_python

pytestmark = pytest.mark.needs("root")

UID, GID, EXTRA = 54321, 54322, 54323
WHO = """
import json, os
def refused(act):
    try:
        act()
    except PermissionError:
        return True
    return False
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "resuid": os.getresuid(), "resgid": os.getresgid(), "groups": sorted(os.getgroups()), "env": dict(os.environ),
    "caps": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"].strip(), "sid": os.getsid(0) == os.getpid(),
    "refused": [refused(lambda: os.setuid(0)), refused(lambda: os.setgroups([0])), refused(lambda: os.setgid(0))],
    "fds": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1], "cwd": os.getcwd(), "umask": os.umask(0),
}))
"""


class Helper:
    """Runs the helper once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = folder / "ran"

    def request(self, **changes: Any) -> dict[str, Any]:
        argv = [reachable_python(), "-c", f"open({str(self.marker)!r}, 'w').close()\n{WHO}"]
        return {
            "uid": UID,
            "gid": GID,
            "groups": [GID, EXTRA],
            "floor": 1000,
            "umask": 0o027,
            "no_new_privs": True,
            "cwd": str(self.folder),
            "argv": argv,
            "env": {"PATH": "/usr/bin:/bin", "A": "b"},
        } | changes

    def run(self, line: bytes, *prefix: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Exit status, the helper's last report, what the program printed."""
        read, write = os.pipe()
        # A high number first: the helper's third descriptor must not be one that Popen uses itself.
        high = fcntl.fcntl(write, fcntl.F_DUPFD, 50)
        os.close(write)
        child = subprocess.Popen(
            [*prefix, reachable_python(), "-I", "-S", run_as.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[run_as.REPORT_FD],
            preexec_fn=lambda: os.dup2(high, run_as.REPORT_FD),
            env={"LEAK": "from the hub", "PATH": "/usr/bin:/bin"},
        )
        os.close(high)
        out, err = child.communicate(line, timeout=20)
        with os.fdopen(read) as pipe:
            reports = pipe.read().splitlines()
        assert b"Traceback" not in err, err.decode()
        return child.returncode, json.loads(reports[-1]) if reports else {}, json.loads(out) if out else {}

    def go(self, *prefix: str, **changes: Any) -> tuple[int, dict[str, Any], dict[str, Any]]:
        return self.run(json.dumps(self.request(**changes)).encode() + b"\n", *prefix)

    def refuses(self, *prefix: str, because: str, **changes: Any) -> None:
        """It must end with its own status and a reason, and the program must not have run."""
        code, report, out = self.go(*prefix, **changes)
        assert code == run_as.EX_CONFIG
        assert because in report["error"]
        assert out == {}
        assert not self.marker.exists()


@pytest.fixture
def helper() -> Iterator[Helper]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chown(name, UID, GID)
        yield Helper(Path(name))


def test_every_right_is_gone_and_nothing_else_came_along(helper: Helper) -> None:
    code, report, who = helper.go()
    assert (code, report) == (0, {"warnings": []})
    assert who["resuid"] == [UID] * 3
    assert who["resgid"] == [GID] * 3
    assert who["groups"] == [GID, EXTRA]
    assert who["refused"] == [True, True, True]
    assert set(who["caps"]) == {"0" * 16}
    assert who["no_new_privs"] == "1"
    assert who["sid"] is True
    assert who["fds"] == [0, 1, 2]
    assert who["cwd"] == str(helper.folder)
    assert who["umask"] == 0o027
    assert {"PATH", "A"} <= who["env"].keys() <= {"PATH", "A", "LC_CTYPE"}


def test_no_new_privs_can_be_left_off(helper: Helper) -> None:
    assert helper.go(no_new_privs=False)[2]["no_new_privs"] == "0"


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"uid": 0}, "root's"),
        ({"gid": 0}, "root's"),
        ({"groups": [GID, 0]}, "root's"),
        ({"uid": 999}, "below the lowest one allowed, 1000"),
        ({"uid": -1}, "not a uid"),
        ({"uid": 2**32 - 1}, "not a uid"),
        ({"uid": 2**32}, "not a uid"),
        ({"uid": True}, "not a uid"),
        ({"uid": "54321"}, "not a uid"),
        ({"groups": [None]}, "not a uid"),
        ({"cwd": "/root/nowhere"}, "PermissionError"),
        ({"argv": ["/nowhere/program"]}, "/nowhere/program was not found"),
        ({"argv": ["no-such-program"]}, "no-such-program was not found on the PATH /"),
        ({"argv": ["/root/.profile"]}, "/root/.profile could not be run: Permission denied"),
        ({"argv": ["/etc/passwd"]}, "/etc/passwd could not be run: Permission denied"),
        ({"secrets": "/nowhere"}, "FileNotFoundError"),
    ],
)
def test_wrong_requests_end_before_the_program(helper: Helper, changes: dict[str, Any], because: str) -> None:
    helper.refuses(because=because, **changes)


@pytest.mark.parametrize(
    ("first_line", "why"), [("#!/nowhere/python", "its interpreter or link leads nowhere"), ("", "Exec format error")]
)
def test_a_program_that_is_there_and_cannot_run_is_told_apart(helper: Helper, first_line: str, why: str) -> None:
    program = helper.folder / "program"
    program.write_text(first_line + "\n")
    program.chmod(0o755)
    for argv, path in (([str(program)], "/usr/bin"), (["program"], f"/usr/bin:{helper.folder}:/bin")):
        code, report, _ = helper.go(argv=argv, env={"PATH": path})
        assert (code, report["not_executed"]) == (run_as.EX_CONFIG, True)
        assert report["error"] == f"{program} could not be run: {why}"


@pytest.mark.parametrize("right", ["setgid", "setuid", "setpcap"])
def test_a_step_that_the_kernel_refuses_ends_it(helper: Helper, right: str) -> None:
    """GHSA-5jhc-4h3c-q97h: a setgroups that failed was ignored, and the groups of root stayed."""
    helper.refuses("setpriv", f"--bounding-set=-{right}", f"--inh-caps=-{right}", because="PermissionError")


DENY_SETGROUPS = """
import ctypes, os, sys
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(ready[1], b"1")
    os.read(go[0], 1)
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
for name, text in (("setgroups", "deny"), ("uid_map", "0 0 65536"), ("gid_map", "0 0 65536")):
    with open(f"/proc/{child}/{name}", "w") as file:
        file.write(text)
os.close(3)
os.write(go[1], b"1")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_kernel_that_denies_only_setgroups_ends_it(helper: Helper) -> None:
    """GHSA-5jhc-4h3c-q97h again: here every other step would succeed, with root's groups kept."""
    code, report, out = helper.go(reachable_python(), "-c", DENY_SETGROUPS)
    assert code == run_as.EX_CONFIG
    assert report["error"].startswith("PermissionError")
    assert out == {}
    assert not helper.marker.exists()


@pytest.mark.parametrize(
    ("call", "because"),
    [("setgroups", "the groups are"), ("setresgid", "ids are"), ("setresuid", "ids are")],
)
def test_a_call_that_says_yes_and_does_nothing_is_noticed(helper: Helper, call: str, because: str) -> None:
    """The result counts, not the call's answer."""
    script = (
        f"import os, sys; sys.path.insert(0, {str(Path(run_as.__file__).parent)!r}); import run_as\n"
        f"os.{call} = lambda *args: None\n"
        f"run_as.become({helper.request()!r})"
    )
    done = subprocess.run([reachable_python(), "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"Refused: {because}" in done.stderr


def test_capabilities_that_survive_the_switch_end_it(helper: Helper) -> None:
    """With this securebit setuid takes no capability away: every call succeeds and root's rights stay."""
    helper.refuses("setpriv", "--securebits=+no_setuid_fixup", because="Refused")


@pytest.mark.parametrize("line", [b"", b"{}", b'{"uid": 54321', b"\n", b"[]\n", b"{}\n", b"\xff\n"])
def test_without_a_whole_permission_nothing_runs(helper: Helper, line: bytes) -> None:
    code, report, out = helper.run(line)
    assert code == (run_as.EX_CONFIG if line.endswith(b"\n") else 0)
    assert ("error" in report) == line.endswith(b"\n")
    assert out == {}


def test_secrets_come_from_a_file_that_is_gone_afterwards(helper: Helper) -> None:
    secrets = helper.folder / "secrets"
    secrets.write_text(json.dumps({"TOKEN": "t0ken"}))
    os.chown(secrets, UID, GID)
    secrets.chmod(0o600)
    assert helper.go(secrets=str(secrets))[2]["env"]["TOKEN"] == "t0ken"
    assert not secrets.exists()


@pytest.mark.parametrize("fault", ["readable", "link", "not hers"])
def test_a_file_of_secrets_that_is_not_hers_alone_is_refused(helper: Helper, fault: str) -> None:
    secrets, real = helper.folder / "secrets", helper.folder / "real"
    real.write_text("{}")
    os.chown(real, 0 if fault == "not hers" else UID, GID)
    real.chmod(0o640 if fault == "readable" else 0o600)
    secrets.symlink_to(real) if fault == "link" else real.rename(secrets)
    helper.refuses(because="Error" if fault != "readable" else "can be read by others", secrets=str(secrets))


def test_files_are_put_over_others_for_this_program_only(helper: Helper) -> None:
    own = helper.folder / "passwd"
    own.write_text("somebody:x:54321:54322::/:/bin/sh\n")
    own.chmod(0o644)
    argv = [reachable_python(), "-c", "import getpass, json; print(json.dumps({'who': getpass.getuser()}))"]
    _, report, out = helper.go(binds=[[str(own), "/etc/passwd"]], argv=argv)
    assert (report, out) == ({"warnings": []}, {"who": "somebody"})
    assert "somebody" not in Path("/etc/passwd").read_text()


def test_where_namespaces_are_not_allowed_it_says_so_by_name(helper: Helper) -> None:
    own = helper.folder / "passwd"
    own.write_text("")
    prefix = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    code, report, who = helper.go(*prefix, binds=[[str(own), "/etc/passwd"]])
    assert code == 0
    assert report["warnings"][0].startswith("no_private_passwd: ")
    assert who["resuid"] == [UID] * 3


def test_protection_from_memory_shortage_is_not_handed_on(helper: Helper) -> None:
    protected = ("/bin/sh", "-c", 'echo -500 > /proc/self/oom_score_adj; exec "$@"', "sh")
    program = "import json; print(json.dumps({'score': open('/proc/self/oom_score_adj').read().strip()}))"
    assert helper.go(*protected, argv=[reachable_python(), "-c", program])[2] == {"score": "0"}


def test_the_helper_stays_small() -> None:
    """It is read as a whole before every release; what does not fit belongs elsewhere."""
    lines = Path(run_as.__file__).read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith(("#", '"""'))]
    assert len(code) <= 150
