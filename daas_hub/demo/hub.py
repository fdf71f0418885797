"""The demo's hub: its configuration, written out so that it can be read, and its process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daas_hub.clients import processes
from daas_hub.clients.processes import ProcessId
from daas_hub.core.errors import ConfigError
from daas_hub.core.units import format_duration

from .folders import Folders, write_whole
from .people import BASE, DIRECTORY_NAME, SERVICE_DN, Site
from .proxy_command import ProxyCommand

REPORT_EVERY_S = 15
"""How often servers report their activity; the idle rule of the demo is short, so this is too."""
STOP_WITHIN_S = 90.0


@dataclass(frozen=True)
class Settings:
    """What a demo's configuration is made from."""

    folders: Folders
    site: Site
    directory_url: str
    port: int
    hub_port: int
    proxy_api_port: int
    idle_after_s: int
    proxy: ProxyCommand
    shared_uid: bool

    @property
    def url(self) -> str:
        """Where people go."""
        return f"http://127.0.0.1:{self.port}"


def notice(settings: Settings) -> str:
    """The line above every page (HTML; no text of a user is in it)."""
    parts = [
        "This is a demo on one machine. Rule: a server of profile <strong>Basic</strong> that is idle for "
        f"{format_duration(settings.idle_after_s)} is stopped."
    ]
    if settings.proxy.lacks:
        parts.append(settings.proxy.lacks)
    return " ".join(parts)


def profiles(idle_after_s: int) -> list[dict[str, Any]]:
    """Basic and Data Science, in the format of ``c.DaasSpawner.profile_list``."""
    return [
        {
            "display_name": "Basic",
            "slug": "basic",
            "default": True,
            "description": f"For a first look and for courses. Stopped when idle for {format_duration(idle_after_s)}.",
            "resources": {"cpu_limit": 1, "mem_limit": "1G"},
        },
        {
            "display_name": "Data Science",
            "slug": "data-science",
            "description": "For longer analyses. Stopped when idle for 1 h.",
            "resources": {"cpu_limit": 2, "mem_limit": "2G"},
            "profile_options": {
                "size": {
                    "display_name": "Size",
                    "choices": {
                        "medium": {
                            "display_name": "2 cores, 2 GiB",
                            "default": True,
                            "resources": {"cpu_limit": 2, "mem_limit": "2G"},
                        },
                        "large": {
                            "display_name": "4 cores, 4 GiB",
                            "allowed_groups": ["researchers"],
                            "resources": {"cpu_limit": 4, "mem_limit": "4G"},
                        },
                    },
                },
                "threads": {
                    "display_name": "Threads of numerical libraries",
                    "choices": {
                        "one": {
                            "display_name": "One (reproducible)",
                            "default": True,
                            "environment": {"OMP_NUM_THREADS": "1"},
                        },
                        "all": {"display_name": "As many as cores", "environment": {"OMP_NUM_THREADS": ""}},
                    },
                },
            },
        },
    ]


def configuration(settings: Settings) -> str:
    """The text of the demo's ``jupyterhub_config.py``."""
    folders, site = settings.folders, settings.site
    groups = list(site.gids)
    renamed = dict(zip(("operators", "researchers", "students"), groups, strict=True))
    profile_list = json.loads(
        json.dumps(profiles(settings.idle_after_s)).replace('"researchers"', json.dumps(renamed["researchers"]))
    )
    values: dict[str, Any] = {
        "JupyterHub.bind_url": settings.url,
        "JupyterHub.hub_bind_url": f"http://127.0.0.1:{settings.hub_port}",
        "ConfigurableHTTPProxy.api_url": f"http://127.0.0.1:{settings.proxy_api_port}",
        "ConfigurableHTTPProxy.command": list(settings.proxy.argv),
        # Below its working directory: JupyterHub takes a URL apart itself, and does not know quoted characters.
        "JupyterHub.db_url": "sqlite:///jupyterhub.sqlite",
        "JupyterHub.cookie_secret_file": f"{folders.state}/cookie_secret",
        # A demo leaves nothing running; a real hub never sets this (design.md §4.7).
        "JupyterHub.cleanup_servers": True,
        "JupyterHub.template_vars": {"announcement": notice(settings)},
        "JupyterHub.authenticator_class": "daas-ldap",
        "DaasLDAPAuthenticator.directory_name": DIRECTORY_NAME,
        "DaasLDAPAuthenticator.server_uris": [settings.directory_url],
        "DaasLDAPAuthenticator.bind_dn": SERVICE_DN,
        "DaasLDAPAuthenticator.bind_password_file": f"{folders.state}/service_password",
        "DaasLDAPAuthenticator.user_search_base": f"ou=people,{BASE}",
        "DaasLDAPAuthenticator.group_search_base": f"ou=groups,{BASE}",
        # The directory listens on the loopback interface of this machine only.
        "DaasLDAPAuthenticator.allow_plaintext": True,
        "DaasLDAPAuthenticator.allowed_groups": set(groups),
        "DaasLDAPAuthenticator.admin_groups": {renamed["operators"]},
        "DaasHub.hub_id": folders.hub_id,
        "DaasHub.ledger_url": folders.ledger_url,
        "DaasSpawner.profile_list": profile_list,
        "Spawner.default_url": "/lab",
        "Spawner.environment": {"JUPYTERHUB_ACTIVITY_INTERVAL": str(REPORT_EVERY_S)},
        "LocalBackend.runtime_dir": str(folders.run),
        "LocalBackend.allow_shared_uid": settings.shared_uid,
        "Culler.rules": rules(settings.idle_after_s),
        # The idle rule is short, so new servers must be known soon.
        "Culler.read_ledger_every_s": 5.0,
    }
    lines = [f"c.{name} = {value!r}" for name, value in values.items()]
    head = '"""Written by `daas-hub demo` at every start."""'
    wiring = "c = get_config()\nfrom daas_hub import configure\n"
    return "\n".join([head, "", wiring, *lines, DEMO_SERVICE, "configure(c)", ""])


def rules(idle_after_s: int) -> list[dict[str, Any]]:
    """The culler's rules, first match wins."""
    return [
        {"name": "Basic", "profiles": ["basic"], "idle_after_s": idle_after_s},
        {"name": "Data Science", "profiles": ["data-science"], "idle_after_s": 3600},
    ]


DEMO_SERVICE = """
import os
c.JupyterHub.services = [{"name": "demo", "api_token": os.environ["DAAS_DEMO_TOKEN"]}]
c.JupyterHub.load_roles = [{"name": "demo", "services": ["demo"], "scopes": ["servers", "read:users", "read:servers"]}]
"""
"""The demo itself starts one server and reads when it is ready; it may do nothing else."""


DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM: kept across exec (prctl(2))
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Run in the child before the hub: it gets SIGTERM when the demo is gone, however it went."""


class HubProcess:
    """The demo's hub as a child in a session of its own: Ctrl-C reaches the demo, which then stops the hub."""

    def __init__(self, settings: Settings) -> None:
        self._folders = settings.folders
        self.settings = settings
        self.log = settings.folders.state / "hub.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.token = settings.folders.secret("demo_token", 24)

    def start(self) -> None:
        """Write the configuration and start the hub; its id is saved before anything is waited for."""
        folders = self._folders
        config = folders.state / "jupyterhub_config.py"
        write_whole(config, configuration(self.settings))
        write_whole(folders.state / "service_password", self.settings.site.service_password)
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTERHUB_", "CONFIGPROXY_", "DAAS_"))}
        environment = {
            **keep,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "JUPYTERHUB_CRYPT_KEY": folders.secret("crypt_key"),
            "CONFIGPROXY_AUTH_TOKEN": folders.secret("proxy_token"),
            "DAAS_DEMO_TOKEN": self.token,
            "DAAS_HUB_ID": folders.hub_id,
        }
        hub = [sys.executable, "-P", "-m", "jupyterhub", "-f", str(config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", DIE_WITH_PARENT, str(os.getpid()), *hub],
                cwd=folders.state,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        remember_process(folders, "hub", self.process.pid)

    def check(self) -> None:
        """Raise ConfigError with the log's end where the hub is gone."""
        if self.process is None or self.process.poll() is None:
            return
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise ConfigError(f"The hub ended (status {self.process.returncode}). The end of {self.log}:\n{tail}")

    async def stop(self) -> None:
        """SIGTERM: the hub stops every server and its proxy; SIGKILL where that takes longer than 90 s."""
        if self.process is None:
            return
        self.process.terminate()
        deadline = asyncio.get_running_loop().time() + STOP_WITHIN_S
        while self.process.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                self.process.kill()
            await asyncio.sleep(0.1)
        self._folders.forget("process-hub")


def remember_process(folders: Folders, name: str, pid: int) -> None:
    """Save which process this is, for certain, so that the next start can stop exactly it."""
    known = processes.identify(pid)
    if known is not None:
        folders.save(f"process-{name}", {"boot_id": known.boot_id, "pid": known.pid, "start_time": known.start_time})


def remembered_process(folders: Folders, name: str) -> ProcessId | None:
    """What ``remember_process`` saved, while it still runs."""
    saved = folders.load(f"process-{name}")
    known = ProcessId(**saved) if saved else None
    return known if known is not None and processes.alive(known) else None
