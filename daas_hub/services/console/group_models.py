"""What the console's REST interface takes and gives about groups (see models)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from daas_hub.core.groups import LOCAL_ALLOWED

from .models import In, Name, Note, Out


class GroupModel(Out):
    """One group, with where it comes from."""

    name: str
    sources: list[str] = Field(
        description="`local`, `project`, `directory`, or `hub`: made in JupyterHub itself. A project and the directory "
        "may have the same name, and both count."
    )
    description: str
    members: int = Field(description="As far as known here: of the directory those who have signed in.")
    left_out: bool = Field(
        description="True where the directory has a group of this name too, which counts for nobody (group_name_taken)."
    )


class GroupList(Out):
    """All groups that the person may see, by name."""

    groups: list[GroupModel]


class GroupDetail(Out):
    """One group with its members."""

    group: GroupModel
    members: list[str] = Field(description="User names; of an account whose user is gone its id.")


class NewGroup(In):
    """A local group to make."""

    name: Annotated[Name, Field(json_schema_extra={"x-allowed": LOCAL_ALLOWED})]
    description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""
    note: Note = ""


class MemberIn(In):
    """Why somebody becomes a member."""

    note: Note = ""
