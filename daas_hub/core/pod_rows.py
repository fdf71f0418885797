"""What one row of the API's table of pods says, and when it says enough. Pure.

The cells are those that ``kubectl get pods -o wide`` shows. "Status" is the pod's phase, or its reason, or what its
first container waits for or ended with; a pod that is being deleted shows Terminating.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .models import Json
from .pods import SERVER

COLUMNS = ("Name", "Ready", "Status", "IP", "Node")
NONE = "<none>"
ON_ITS_WAY = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(slots=True, eq=False)
class PodRow:
    """What is kept of a pod: 5,000 of them stay in the hub's memory."""

    ready: str
    status: str
    ip: str
    node: str
    marks: str = ""
    """Completed, where the phase is Succeeded or Failed: "Status" may still show what a container waits for."""
    version: str = ""
    """Of the object; a list's row has none."""
    uid: str | None = None
    """Rows have none: it is asked once, and holds until the pod is deleted."""
    just_made: bool = False
    """The watch told that it was made, and nothing since: the scheduler has not spoken."""
    whole: Json | None = None
    """Where the server gives no tables."""

    def same(self, other: PodRow) -> bool:
        """Whether nothing can have changed that anybody asks for, though what came between was missed."""
        if self.whole is not None or other.whole is not None:
            return self.whole == other.whole
        cells = (other.ready, other.status, other.ip, other.node, other.marks)
        return (self.ready, self.status, self.ip, self.node, self.marks) == cells and self.told("") is not None

    def told(self, name: str) -> Json | None:
        """The pod as ``core/pods`` reads it, where the row says all that is read; None: ask for the pod itself.

        All containers ready and the status Running: the server's container runs, no reason, no deletion. A single
        container that is being made, or none yet on a known node: nothing has failed. All else has a reason.
        """
        if self.whole is not None:
            return self.whole
        if self.marks:
            return None
        running, _, wanted = self.ready.partition("/")
        status: Json
        if self.status == "Running" and running == wanted and wanted.isdigit() and wanted != "0":
            if NONE in (self.ip, self.node):
                return None
            status = {
                "phase": "Running",
                "podIP": self.ip,
                "containerStatuses": [{"name": SERVER, "state": {"running": {}}}],
            }
        elif self.ready == "0/1" and (self.status in ON_ITS_WAY or self._waits()):
            status = {"phase": "Pending"}
        else:
            return None
        node = None if self.node == NONE else self.node
        return {"metadata": {"name": name, "uid": self.uid}, "spec": {"nodeName": node}, "status": status}

    def _waits(self) -> bool:
        return self.status == "Pending" and (self.node != NONE or self.just_made)


def row_of(cells: Sequence[str]) -> PodRow:
    """A row from the cells of ``COLUMNS`` and its marks; what many rows share is kept once."""
    _name, ready, status, ip, node, marks = cells
    return PodRow(sys.intern(ready), sys.intern(status), ip, sys.intern(node), sys.intern(marks))
