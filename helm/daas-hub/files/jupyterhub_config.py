"""The hub of the chart: what the values say, then what is the chart's own. Change values, not this file."""

import json
import os
from pathlib import Path

from daas_hub import configure

c = get_config()  # noqa: F821  JupyterHub provides it
here = Path(__file__).parent
values = json.loads((here / "values.json").read_text())
users, ids = values["users"], values["users"]["ids"]

# What the hub can lose (its database) and must not lose (the ledger) lie on one claim, where the hub is started; both
# are SQLite.
data = Path.cwd()
c.JupyterHub.db_url = f"sqlite:///{data}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = str(data / "cookie-secret")
c.DaasHub.ledger_url = f"sqlite:///{data}/ledger.sqlite"
c.DaasHub.hub_id = values["hubId"]

# The proxy is a pod of its own: it goes on while the hub restarts.
c.JupyterHub.base_url = values["baseUrl"]
c.JupyterHub.hub_bind_url = "http://:8081"
c.JupyterHub.hub_connect_url = f"http://{values['hubHost']}:8081"
c.JupyterHub.cleanup_proxy = False
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = f"http://{values['proxyHost']}:8001"

# The console listens where the proxy reaches it: at the pod's own address.
address = os.environ["POD_IP"]
host = f"[{address}]" if ":" in address else address

# The same limits as the cluster's admission policy has, so that a refusal is told before anything is submitted.
c.DaasHub.backends = {"kubernetes": "daas_hub.backends.kube.KubeBackend"}
c.KubeBackend.namespace = users["namespace"]
c.KubeBackend.min_uid, c.KubeBackend.max_uid = ids["minUid"], ids["maxUid"]
c.KubeBackend.min_gid, c.KubeBackend.max_gid = ids["minGid"], ids["maxGid"]
c.KubeBackend.reserved_ids = ids["reserved"]
c.KubeBackend.denied_gids = ids["deniedGids"]
c.KubeBackend.require_strict_groups = users["strictGroups"]
c.KubeBackend.pull_secrets = users["imagePullSecrets"]
c.KubeBackend.volume_roots = values["volumeRoots"]
if values["homesUrl"]:
    c.KubeBackend.home_creation = "service"
    c.KubeBackend.home_service_url = values["homesUrl"]
    c.KubeBackend.home_service_token_file = "/etc/daas-hub-homes/token"
c.KubeSpawner.image_pull_secrets = users["imagePullSecrets"]
c.DaasSpawner.min_uid = ids["minUid"]
# A container's own passwd says nothing about the site's accounts.
c.DaasSpawner.use_nss = False

for section, traits in values["config"].items():
    for trait, value in traits.items():
        c[section][trait] = value
exec(compile((here / "extra.py").read_text(), "hub.extraConfig", "exec"))  # noqa: S102  the operator's own words

configure(c)

for service in c.JupyterHub.services:
    if service["name"] == "daas":
        service["url"] = f"http://{host}:8082"
