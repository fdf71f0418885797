"""Settings of the local backend, apart from the flow that uses them."""

from __future__ import annotations

import os
import re
from typing import Any

from traitlets import Bool, Float, HasTraits, Int, List, TraitError, Unicode, default, validate

from daas_hub.core.capacity import Room
from daas_hub.core.units import parse_bytes


class LocalSettings(HasTraits):
    """Traits of ``c.LocalBackend`` beyond those of every backend."""

    runtime_dir = Unicode(
        help="Folder for what launches need while they run: records, logs, Jupyter's own runtime files. Must lie "
        "outside every home (a home may be full) and on a local disk; best a file system of its own, because people "
        "can fill their part of it. Made as needed, mode 0711, owned by the hub's user. The default is "
        "/var/lib/daas-hub/run for root, else ~/.local/state/daas-hub/run of the hub's own user.",
    ).tag(config=True)

    home_roots = List(
        Unicode(),
        help="Folders below which missing parents of a home are made too (owned by root, mode 0755), for example "
        "`/home` where homes are /home/<group>/<name>. The folder itself must exist: an unmounted one is never made. "
        "Once any is named, a missing home elsewhere is not made at all. Empty (the default): a missing home is made "
        "wherever its parent exists.",
    ).tag(config=True)

    home_timeout_s = Float(
        20.0,
        min=1,
        help="How long a home may take to answer, in seconds, when it is made or settings are copied; 1 or more. 20 "
        "lets an automounter work; a home that hangs longer would only give a server that hangs.",
    ).tag(config=True)

    full_home_bytes = Int(
        64 * 2**20,
        min=0,
        help="A home with less free space than this, in bytes, counts as nearly full at the start of a server: "
        "deleting then frees room at once instead of moving files to the trash. 0: only a home that refuses 1 MiB "
        "counts as full. The default, 64 MiB, is room for a few notebooks.",
    ).tag(config=True)

    min_uid = Int(
        1000,
        min=1,
        help="The lowest uid that servers may have here, checked again by the helper that becomes the account, "
        "whatever was decided before it: the last of three layers. Applies where the hub runs as root. 1000 is where "
        "Linux distributions begin ordinary accounts.",
    ).tag(config=True)

    allow_shared_uid = Bool(
        False,
        help="Where the hub does not run as root: run everybody under the hub's own uid, each with a home of her own. "
        "There is no isolation then: everybody can read everybody's files and stop everybody's servers, and pages say "
        "so. False (the default) refuses accounts of any other uid. As root it has no effect.",
    ).tag(config=True)

    require_limits = Bool(
        False,
        help="Refuse to start servers where their CPU and memory limits cannot be enforced (no writable cgroups). "
        "False: they start, and pages say that limits are not enforced here.",
    ).tag(config=True)

    room_cores = Float(
        0.0,
        min=0,
        help="Cores for all servers of this hub together on this machine, by the guarantee of their profiles, and by "
        "the limit where no guarantee is set. A start that finds no room waits in the hub's own queue; a profile that "
        "is larger is refused. May be more than the machine has. 0, the default: no bound, nothing waits.",
    ).tag(config=True)

    room_memory = Unicode(
        "0",
        help="Memory for all servers of this hub together on this machine, counted in the same way: bytes, or text "
        "such as `48G`. 0, the default: no bound.",
    ).tag(config=True)

    max_processes = Int(
        4096,
        min=0,
        help="How many processes and threads one server may have, so that a fork bomb stops at its own cgroup. 0: no "
        "limit. 4096 is far above what notebooks need. Not enforced where cgroups cannot be written.",
    ).tag(config=True)

    no_new_privs = Bool(
        True,
        help="Set no_new_privs on servers: sudo, su and other set-uid programs have no effect inside. True, because a "
        "server should never become more than its account. False where people need such programs (fusermount, "
        "newuidmap).",
    ).tag(config=True)

    env_keep = List(
        Unicode(),
        ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"],
        help="Names of variables that servers get from the hub's own environment; nothing else of it is handed on. An "
        "empty list: none at all (PATH is then /usr/local/bin:/usr/bin:/bin). Never name one that holds a secret.",
    ).tag(config=True)

    stop_grace_s = Float(
        20.0,
        min=0,
        help="How long a server may take to end by itself after SIGTERM, in seconds, before it and all it started are "
        "killed; never more than two thirds of what the caller leaves. 20 lets kernels save. 0: killed at once.",
    ).tag(config=True)

    umask = Unicode(
        "022",
        help="The umask that servers begin with, in octal. 022 as login sessions have it; 027 or 077 keep new files "
        "from others where homes are open.",
    ).tag(config=True)

    leftovers_after_s = Int(
        86400,
        min=60,
        help="After how many seconds the folder of a launch that has ended is removed although nobody has settled it "
        "(the ledger was lost, or could not be written); 60 or more. A day leaves time to look at its log, and to the "
        "reconciler to read how it ended. What a start left that a hub was killed in is removed when it is settled.",
    ).tag(config=True)

    @validate("room_memory")
    def _a_size(self, proposal: Any) -> str:
        value: str = proposal["value"]
        try:
            parse_bytes(value)
        except ValueError as error:
            raise TraitError(f"LocalBackend.room_memory: {error}") from error
        return value

    def kept_room(self) -> Room:
        """What the hub's own queue keeps to on this machine."""
        return Room(self.room_cores or None, parse_bytes(self.room_memory) or None)

    @validate("umask")
    def _octal(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if re.fullmatch(r"0?[0-7]{3}", value) is None:
            raise TraitError(f"LocalBackend.umask is {value!r}; allowed are three octal digits, such as 022.")
        return value

    @validate("runtime_dir")
    def _absolute(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if not value.startswith("/"):
            raise TraitError(f"LocalBackend.runtime_dir is {value!r}; an absolute path is needed.")
        return value

    @default("runtime_dir")
    def _default_runtime_dir(self) -> str:
        if os.geteuid() == 0:
            return "/var/lib/daas-hub/run"
        return os.path.expanduser("~/.local/state/daas-hub/run")
