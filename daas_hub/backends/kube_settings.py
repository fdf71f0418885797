"""Settings of the Kubernetes backend, apart from the flow that uses them."""

from __future__ import annotations

from traitlets import Bool, Enum, Float, HasTraits, Int, List, Unicode, default


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

    min_uid = Int(
        1000,
        min=1,
        help="The lowest uid and gid that pods may have here, checked again before a pod is submitted, whatever was "
        "decided before; the cluster's admission policy checks it once more. 1000 is where Linux distributions begin "
        "ordinary accounts.",
    ).tag(config=True)

    gpu_resource = Unicode(
        "nvidia.com/gpu",
        help="The extended resource that a profile's `gpus` asks for, for example `amd.com/gpu`.",
    ).tag(config=True)

    read_only_root = Bool(
        False,
        help="Mount every container's own file system read-only. True keeps a server from changing its image; homes, "
        "/tmp where a profile mounts it and Jupyter's runtime folders stay writable. False: as the image has it.",
    ).tag(config=True)

    storage_class = Unicode(
        "",
        help="StorageClass of homes that are made as needed. Empty: the cluster's default class.",
    ).tag(config=True)

    home_size = Unicode(
        "10Gi",
        help="How large a new home's claim is, as Kubernetes writes quantities (10Gi). A smaller number later never "
        "shrinks one that exists.",
    ).tag(config=True)

    access_modes = List(
        Unicode(),
        ["ReadWriteOnce"],
        help="Access modes of a new home's claim. ReadWriteOnce holds all servers of a person on one node; where the "
        "class can do it, ReadWriteMany lets them run anywhere.",
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

    leftovers_after_s = Int(
        3600,
        min=60,
        help="After how many seconds Secrets and ConfigMaps are removed that belong to no pod and no launch (a hub "
        "that was killed in the middle of a start leaves them); 60 or more. An hour leaves time to look at them.",
    ).tag(config=True)

    @default("wait_policy_s")
    def _default_wait_policy_s(self) -> int:
        # A large image takes minutes to pull on a node that never had it.
        return 600
