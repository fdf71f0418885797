"""Settings of the Kubernetes backend, apart from the flow that uses them."""

from __future__ import annotations

from typing import Any

from traitlets import Bool, Dict, Enum, Float, HasTraits, Int, List, Unicode, default

from daas_hub.core.account import RESERVED
from daas_hub.core.errors import ConfigError
from daas_hub.core.pod_rules import MAX_ID, PodRules
from daas_hub.core.volume_rules import HOME, VolumeRule, fields_of, read_roots, read_rules


class KubeSettings(HasTraits):
    """Traits of ``c.KubeBackend`` beyond those of every backend. What a pod looks like is set by ``c.KubeSpawner``."""

    kubeconfig = Unicode(
        "",
        help="Path of a kubeconfig file. Empty (the default): the hub runs in the cluster and uses its own service "
        "account.",
    ).tag(config=True)

    context = Unicode(
        "",
        help="Which context of the kubeconfig; empty: its current one. Without meaning inside of a cluster.",
    ).tag(config=True)

    namespace = Unicode(
        "daas-users",
        help="The namespace of users' pods, Secrets and claims. It must hold nothing else: only the hub may write "
        "there, and it is labelled Pod Security *restricted*. Changing it orphans what runs: stop all servers first.",
    ).tag(config=True)

    server_service = Unicode(
        "",
        help="With JupyterHub.internal_ssl: a headless Service in the namespace, which selects the servers' pods. By "
        "it each pod has a DNS name of its own, which its certificate is for and by which hub and proxy reach it, so "
        "both must use the cluster's DNS. Empty (the default): servers are reached by IP, and with internal_ssl none "
        "is started.",
    ).tag(config=True)

    min_uid = Int(
        1000,
        min=1,
        help="The lowest uid that pods may have here, checked again before a pod is submitted, whatever was decided "
        "before; the cluster's admission policy checks it once more. 1000 is where Linux distributions begin ordinary "
        "accounts.",
    ).tag(config=True)

    max_uid = Int(
        MAX_ID,
        min=1,
        max=MAX_ID,
        help="The highest uid that pods may have here. 2147483647, the highest one that Kubernetes takes.",
    ).tag(config=True)

    min_gid = Int(
        100,
        min=1,
        help="The lowest gid that pods may have here, primary or not, checked like min_uid. 100 is `users`, which many "
        "directories give as the primary group; lower ones are the system's, such as `disk` and `shadow`.",
    ).tag(config=True)

    max_gid = Int(
        MAX_ID,
        min=1,
        max=MAX_ID,
        help="The highest gid that pods may have here. 2147483647, the highest one that Kubernetes takes.",
    ).tag(config=True)

    reserved_ids = List(
        List(Int(), minlen=2, maxlen=2),
        [list(pair) for pair in RESERVED],
        help="Ranges `[first, last]` in which neither a uid nor a gid of a pod may be. The defaults are those of "
        "DaasSpawner.reserved_uids. An empty list reserves nothing.",
    ).tag(config=True)

    denied_gids = List(
        Int(min=1),
        help="Gids that no pod may have, for example of groups that open files of the system where homes are. 0 is "
        "always denied. Empty: none but what the ranges leave out.",
    ).tag(config=True)

    require_strict_groups = Bool(
        False,
        help="Refuse a start where a node lacks supplementalGroupsPolicy Strict, so it cannot be asked for. False: "
        "such servers start, with the warning `groups_not_strict`. The chart sets it as its policy demands it.",
    ).tag(config=True)

    pull_secrets = List(
        Unicode(),
        help="Secrets of the users' namespace by which images may be pulled (`c.KubeSpawner.image_pull_secrets`). A "
        "pod that names another one is refused. Empty: none.",
    ).tag(config=True)

    gpu_resource = Unicode(
        "nvidia.com/gpu",
        help="The extended resource that a profile's `gpus` asks for, for example `amd.com/gpu`.",
    ).tag(config=True)

    cluster_grows = Bool(
        True,
        help="Whether larger nodes than those there are may come (an autoscaler). False: a server that is too large "
        "for every node is refused at once, where no other place can take it. True, because a refusal that is wrong "
        "costs more than a wait; a node that is cordoned or not ready counts as such, too.",
    ).tag(config=True)

    read_only_root = Bool(
        False,
        help="Mount every container's own file system read-only. True keeps a server from changing its image; homes, "
        "/tmp and Jupyter's runtime folders stay writable. False: as the image has it.",
    ).tag(config=True)

    storage_class = Unicode(
        "",
        help="StorageClass of homes that are made as needed. Empty: the cluster's default class.",
    ).tag(config=True)

    home_size = Unicode(
        "10Gi",
        help="How large a new home's claim is, as Kubernetes writes quantities (10Gi). A larger number later "
        "lets homes grow at their next start where the class can; a smaller one never shrinks one.",
    ).tag(config=True)

    access_modes = List(
        Unicode(),
        ["ReadWriteOnce"],
        help="Access modes of a new home's claim. ReadWriteOnce holds all servers of a person on one node; where the "
        "class can do it, ReadWriteMany lets them run anywhere.",
    ).tag(config=True)

    volumes: Any = Dict(
        help="Volumes besides the home that profiles may name, and the home where it is not a claim of storage_class: "
        'name → `{"kind": "dynamic" | "nfs" | "hostPath", …}`; see "Volumes" in the reference. Empty: homes only.',
    ).tag(config=True)

    volume_roots: Any = List(
        help="Folders below which disks of kind nfs and hostPath may lie, as the chart's `volumes.roots` has them: "
        '`{"nfs": {"server", "path"}}` or `{"hostPath": {"path"}}`, each with `depth` (1 without it), how many folders '
        "deep. Empty: no such disk.",
    ).tag(config=True)

    home_creation = Enum(
        ["site", "service"],
        "site",
        help="Who makes the folder of a static home that is missing. site (the default): the site; the start is "
        "refused and names it. service: a small service of the site that has this one task, asked once for each home.",
    ).tag(config=True)

    home_service_url = Unicode(
        "",
        help="Where that service listens, such as `http://homes.daas-homes.svc:8083`. Needed for home_creation "
        "`service`, and without meaning for `site`.",
    ).tag(config=True)

    home_service_token_file = Unicode(
        "",
        help="File with the token that the service knows the hub by; read for each home, so that it can be renewed. "
        "Needed for home_creation `service`.",
    ).tag(config=True)

    reclaim = Enum(
        ["Retain", "as-class"],
        "Retain",
        help="What happens to the disk of a claim that somebody deletes. Retain (the default): the volume is switched "
        "to Retain as soon as it is bound, so that it outlives claim and namespace. as-class: left as the class says.",
    ).tag(config=True)

    stop_grace_s = Float(
        20.0,
        min=1,
        help="How long a server may take to end by itself, in seconds, before its container is killed; never more than "
        "half of what the caller leaves. 20 lets kernels save.",
    ).tag(config=True)

    @default("wait_policy_s")
    def _default_wait_policy_s(self) -> int:
        # A large image takes minutes to pull on a node that never had it.
        return 600

    def volume_rules(self) -> dict[str, VolumeRule]:
        """What the site says about volumes, by name. Raises ConfigError."""
        home = {
            "kind": "dynamic",
            "size": self.home_size,
            "storage_class": self.storage_class,
            "access_modes": self.access_modes,
        }
        # Read like one of `volumes`, so that a wrong size stops the hub and no start.
        base = read_rules({HOME: home}, (), VolumeRule(HOME), "KubeBackend: home_size, access_modes or storage_class")
        rules = read_rules(self.volumes, read_roots(self.volume_roots), base[HOME])
        if self.home_creation == "service":
            self._check_service(rules[HOME])
        return rules

    def _check_service(self, home: VolumeRule) -> None:
        setting = "KubeBackend.home_creation is 'service', but"
        if not home.static:
            raise ConfigError(f"{setting} the home is not static: the cluster makes homes. Set it to 'site'.")
        if fields_of(home.path.rpartition("/")[0]):
            raise ConfigError(f"{setting} homes lie in several folders ({home.path}); the service has one.")
        if not self.home_service_url.startswith(("http://", "https://")):
            raise ConfigError(f"{setting} home_service_url is {self.home_service_url!r}; http://… is needed.")
        if not self.home_service_token_file:
            raise ConfigError(f"{setting} home_service_token_file is empty.")

    def pod_rules(self, hub_id: str) -> PodRules:
        """What every pod must be before it is submitted."""
        return PodRules(
            hub_id=hub_id,
            uids=(self.min_uid, self.max_uid),
            gids=(self.min_gid, self.max_gid),
            reserved=tuple((first, last) for first, last in self.reserved_ids),
            denied_gids=frozenset(self.denied_gids),
            strict_groups=self.require_strict_groups,
            pull_secrets=frozenset(self.pull_secrets),
        )
