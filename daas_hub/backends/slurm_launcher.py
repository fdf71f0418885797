"""The launcher of a job: runs on the compute node as the user, and becomes her server.

Its text is copied into the folder of a launch as ``launch.py``, beside ``launch.json`` (``slurm_launch.py`` writes
both). Nothing of this project is importable there: standard library only, and syntax and calls that Python 3.6 has.
It leaves both files as they are, because a requeued job runs it once more. Called with ``end`` it waits, at the job's
end, until settings are back in the home and the node is clean.
"""

import ctypes
import errno
import fcntl
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from typing import Any

FOLDERS = ("runtime", "data", "config", "lab/user-settings", "lab/workspaces", "ipython")
PREFIX = "daas-job-"
OURS = re.compile(PREFIX + r"[a-z0-9-]{1,12}-[A-Za-z0-9_]{8}")
"""Names of the folders that we make on a node."""
LOCK = ".lock"
EPHEMERAL, FIRST = 0, 1024
"""Port 0 lets the kernel choose; below the other one are the ports of root."""
EVERYWHERE = "0.0.0.0"  # noqa: S104  where the node's name says nothing
NOT_HERS = ("127.0.0.1", "127.0.1.1", "::1")
"""Where a node's own name leads to by habit of its /etc/hosts: nobody else could reach a server there."""
REPORT_FOR_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, ANSWER_WITHIN_S = 3600.0, 0.5, 30.0, 20.0
FINAL = (400, 409)
"""Answers to a report that asking again does not change: that is no port; nothing (more) is taken."""
PR_SET_PDEATHSIG = 1
REFUSED, NOT_FOUND = 78, 127
HOME_TASKS = "home_tasks.py"
CARRY_EVERY_S, END_WITHIN_S, LOOK_EVERY_S = 60.0, 10.0, 0.05


def say(text: str) -> None:
    """A line of the job's log; no secret is ever in it."""
    sys.stderr.write(f"daas-hub: {text}\n")
    sys.stderr.flush()


def stop(text: str, status: int = REFUSED) -> None:
    """End with a sentence in the log."""
    say(text)
    sys.exit(status)


# ---------------------------------------------------------------- who and where


def check_account(account: "dict[str, Any]") -> None:
    """The node must know this account by the same ids as the hub; whatever else it is, it is not hers."""
    uid, gid, node = account["uid"], account["gid"], socket.gethostname()
    if os.getuid() != uid or os.geteuid() != uid or os.getgid() != gid or os.getegid() != gid:
        stop(
            "the account {} has uid {} and gid {}, but on {} the job runs as uid {} and gid {}. The server is not "
            "started. Whoever administers the cluster can mend it.".format(
                account["name"], uid, gid, node, os.getuid(), os.getgid()
            )
        )
    groups = account["groups"]
    lacking = sorted(set(groups) - set(os.getgroups()) - {os.getgid()})
    if lacking:
        say(f"groups_missing: the job on {node} is not in the groups {lacking} of the account.")


def address(name: str) -> str:
    """The address that the node's name leads to where it is one of this machine's, else all (an empty text)."""
    try:
        found = socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM) if name else []
    except OSError:
        found = []
    for family, _, _, _, where in found:
        host = str(where[0])
        if host not in NOT_HERS and "%" not in host and free(family, host, EPHEMERAL) is not None:
            return host
    return ""


def free(family: int, host: str, port: int) -> "int | None":
    """The port, or one that the kernel chose for 0, where nobody listens on it; else None."""
    with socket.socket(family, socket.SOCK_STREAM) as s:
        try:
            s.bind((host, port))
        except OSError:
            return None
        return int(s.getsockname()[1])


def choose_port(host: str, ports: "list[int] | None") -> int:
    """A free port on that address, in the site's range where it has one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if ports is None:
        wanted = [EPHEMERAL] * 20
    else:
        wanted = list(range(max(FIRST, ports[0]), ports[1] + 1))
        random.shuffle(wanted)
    for port in wanted:
        found = free(family, host, port)
        if found is not None:
            return found
    stop("no port is free on {}{}.".format(host or "this node", " from {} to {}".format(*ports) if ports else ""))
    raise AssertionError


# ---------------------------------------------------------------- Jupyter's own folders


def trusted(base: str) -> bool:
    """Whether nobody else can rename or remove what we make there, nor a folder on the way."""
    path = os.path.realpath(base)
    while True:
        try:
            facts = os.stat(path)
        except OSError:
            return False
        others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in (0, os.getuid()) or others:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def remove_old(base: str) -> None:
    """Remove folders of launches that ended without cleaning up (a node's crash, SIGKILL): nobody holds their lock."""
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if not OURS.fullmatch(name):
            continue
        try:
            facts = os.lstat(path)
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
                continue
            lock = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(lock)


def bases(last: str) -> "list[str]":
    """Where the folder may lie, the best first; ``last``: where nothing else can be had."""
    wanted = (os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp", last)  # noqa: S108  made safely: see trusted
    return [base for base in wanted if os.path.isabs(base) and trusted(base)]


def make_own(launch_id: str, last: str) -> "tuple[str, int]":
    """A folder of this run alone (0700), and the open file that says it is in use.

    On the node's own storage, because a home may be full (design.md, rule 8.13).
    """
    why = []
    for base in bases(last):
        try:
            remove_old(base)
            own = tempfile.mkdtemp(prefix=beginning(launch_id), dir=base)
            lock = os.open(os.path.join(own, LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for folder in FOLDERS:
                os.makedirs(os.path.join(own, folder), 0o700)
            return own, lock
        except OSError as error:
            why.append(f"{base}: {error.strerror}")
    stop("no folder for Jupyter's own files can be made: {}.".format("; ".join(why) or "none is safe"))
    raise AssertionError


def beginning(launch_id: str) -> str:
    """Of the names of a launch's folders."""
    return f"{PREFIX}{launch_id[:12]}-"


def wait_until_clean(launch_id: str, last: str) -> None:
    """The job's end: give the process beside the server the time to carry settings back and to remove the folder."""
    until = time.monotonic() + END_WITHIN_S
    while time.monotonic() < until:
        there = [base for base in bases(last) for name in os.listdir(base) if name.startswith(beginning(launch_id))]
        if not there:
            return
        for base in there:
            remove_old(base)
        time.sleep(LOOK_EVERY_S)


def home_tasks(folder: str) -> Any:
    """The project's module that copies settings out of the home and back; None where Python is too old for it."""
    sys.dont_write_bytecode = True
    try:
        spec = importlib.util.spec_from_file_location("home_tasks", os.path.join(folder, HOME_TASKS))
        assert spec is not None  # noqa: S101
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (SyntaxError, TypeError, ImportError, OSError) as error:
        say(f"JupyterLab's settings stay in this job: Python 3.9 or later is needed for more ({error}).")
        return None
    return module


def carry(tasks: Any, what: str, task: "dict[str, Any]") -> None:
    """Copy settings; a server starts and ends without them, too."""
    if tasks is None:
        return
    try:
        done = getattr(tasks, what)(task)
    except Exception as error:
        say(f"JupyterLab's settings could not be copied: {type(error).__name__}: {error}")
        return
    if done.get("home_nearly_full"):
        say("the home is nearly full: what is deleted does not go to the trash.")
    if what == "carry_out" and done["skipped"]:
        say("not copied: {}".format("; ".join(done["skipped"])[:2000]))


# ---------------------------------------------------------------- the server


def environment(launch: "dict[str, Any]", folder: str, own: str, host: str, port: int) -> "dict[str, str]":
    """The server's variables: the job's, the hub's, ours. Ours come last: no profile can move the home."""
    account, certificates, secrets, given = (
        launch[key] for key in ("account", "certificates", "secrets", "environment")
    )
    env = dict(os.environ)
    env.update(given)
    home, paths = account["home"], launch["path_first"]
    env["PATH"] = os.pathsep.join([*paths, env.get("PATH") or os.defpath])
    env.update({name: os.path.join(folder, file) for name, file in certificates.items()})
    env.update({name: os.path.join(own, path) for name, path in launch["own_paths"].items()})
    env.update(
        {
            "HOME": home,
            "USER": account["name"],
            "LOGNAME": account["name"],
            "SHELL": account["shell"],
            "JUPYTER_RUNTIME_DIR": os.path.join(own, "runtime"),
            "JUPYTER_DATA_DIR": os.path.join(own, "data"),
            "JUPYTER_CONFIG_DIR": os.path.join(own, "config"),
            "JUPYTERLAB_SETTINGS_DIR": os.path.join(own, "lab/user-settings"),
            "JUPYTERLAB_WORKSPACES_DIR": os.path.join(own, "lab/workspaces"),
            "IPYTHONDIR": os.path.join(own, "ipython"),
            "DAAS_LAUNCH_ID": launch["launch_id"],
            "JUPYTERHUB_SERVICE_URL": "{}://{}:{}{}".format(
                launch["scheme"],
                f"[{host}]" if ":" in host else host or EVERYWHERE,
                port,
                launch["service_prefix"],
            ),
        }
    )
    # What she installed and configured in her home still counts.
    for name, there in (("JUPYTER_PATH", ".local/share/jupyter"), ("JUPYTER_CONFIG_PATH", ".jupyter")):
        env[name] = os.pathsep.join([os.path.join(home, there)] + ([env[name]] if env.get(name) else []))
    env.update(secrets)
    return env


def become(argv: "list[str]", env: "dict[str, str]") -> None:
    """Become the server. Signals reach it as they are sent."""
    try:
        os.execvpe(argv[0], argv, env)  # noqa: S606
    except OSError as error:
        if error.errno != errno.ENOENT:
            stop(f"{argv[0]} cannot be run on {socket.gethostname()}: {error.strerror}.", NOT_FOUND)
        stop(
            "the program {} is not on {}; it was looked for in {}. The profile's software brings it there, or whoever "
            "administers the cluster.".format(argv[0], socket.gethostname(), env["PATH"]),
            NOT_FOUND,
        )


# ---------------------------------------------------------------- beside the server


def opener(folder: str, certificates: "dict[str, str]") -> Any:
    """For the hub: no proxy of the environment, and with the launch's certificate where it has one."""
    import ssl
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """A token goes to the hub and nowhere else: a redirection is an error as it is."""

        def redirect_request(self, *args: object, **kwargs: object) -> None: ...

    files = {name: os.path.join(folder, file) for name, file in certificates.items()}
    context = ssl.create_default_context(cafile=files.get("JUPYTERHUB_SSL_CLIENT_CA"))
    if "JUPYTERHUB_SSL_CERTFILE" in files:
        context.load_cert_chain(files["JUPYTERHUB_SSL_CERTFILE"], files.get("JUPYTERHUB_SSL_KEYFILE"))
    https = urllib.request.HTTPSHandler(context=context)
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect(), https)


def report(launch: "dict[str, Any]", folder: str, port: int, parent: int) -> None:
    """Tell the hub the port; again with longer pauses while it does not answer (it may be restarting).

    The server's end interrupts a pause.
    """
    # What only the report needs is loaded beside the server: it takes as long as the rest of the launcher.
    import urllib.error
    import urllib.request

    certificates, secrets = launch["certificates"], launch["secrets"]
    headers = {"Authorization": "token {}".format(secrets["JUPYTERHUB_API_TOKEN"]), "Content-Type": "application/json"}
    body = json.dumps({"port": port}).encode()
    pause, until, before = FIRST_PAUSE_S, time.monotonic() + REPORT_FOR_S, ""
    while time.monotonic() < until and os.getppid() == parent:
        try:
            request = urllib.request.Request(launch["report_url"], data=body, headers=headers, method="POST")  # noqa: S310
            with opener(folder, certificates).open(request, timeout=ANSWER_WITHIN_S):
                return
        except urllib.error.HTTPError as error:
            why = f"{error.code} {error.reason}"
            if error.code in FINAL:
                say(f"the hub does not take the port {port}: {why}.")
                return
        except (OSError, ValueError) as error:
            why = str(getattr(error, "reason", error))
        if why != before:
            say(f"the hub did not take the port {port} yet: {why}. Trying again.")
        before = why
        signal.sigtimedwait({signal.SIGUSR1}, pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def stand_beside(launch: "dict[str, Any]", folder: str, own: str, port: int, parent: int, tasks: Any) -> None:
    """Report, carry settings back, wait until the server has ended, remove its folder.

    The job's end does not interrupt this; when the job is told to end, settings are copied at once, because not much
    time is left when the server has ended.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCONT):
        signal.signal(number, signal.SIG_IGN)
    told_or_ended = {signal.SIGTERM, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, told_or_ended)
    told = ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGUSR1), 0, 0, 0) == 0
    try:
        report(launch, folder, port, parent)
    except Exception as error:
        say(f"the port could not be reported: {type(error).__name__}: {error}")
    while os.getppid() == parent:
        # Without prctl this is a look once a second.
        signal.sigtimedwait(told_or_ended, CARRY_EVERY_S if told else 1)
        carry(tasks, "remove_over", {"site_tokens": os.path.join(folder, "site_tokens")})
        carry(tasks, "carry_back", {"home": launch["account"]["home"], "own": own})
    shutil.rmtree(own, ignore_errors=True)


def main() -> None:
    """Report from a child, and become the server."""
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return None  # of several tasks the first one is the server
    os.umask(0o077)
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "launch.json"), encoding="utf-8") as file:
        launch = json.load(file)
    if sys.argv[1:] == ["end"]:
        return wait_until_clean(launch["launch_id"], folder)
    check_account(launch["account"])
    host = address(os.environ.get("SLURMD_NODENAME", ""))
    port = choose_port(host, launch["ports"])
    own, lock = make_own(launch["launch_id"], folder)
    home, tasks = launch["account"]["home"], home_tasks(folder)
    wishes = {"terminal": launch["terminal"], "full_home_bytes": launch["full_home_bytes"]}
    carry(tasks, "carry_out", dict(wishes, home=home, own=own))
    parent = os.getpid()
    if os.fork() == 0:
        stand_beside(launch, folder, own, port, parent, tasks)
        os._exit(0)
    os.close(lock)
    if launch["beside"]:
        program, what = launch["beside"]
        argv = [sys.executable, "-I", "-S", os.path.join(folder, program), what, own, str(parent)]
        subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        os.chdir(home)
    except OSError as error:
        say(f"the home {home} cannot be entered on {socket.gethostname()}: {error.strerror}.")
        os.chdir("/")
    argv = [own if word == "{own}" else word for word in launch["argv"]]
    become(argv, environment(launch, folder, own, host, port))
    return None


if __name__ == "__main__":
    main()
