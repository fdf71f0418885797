"""What the console tells of where a launch went, as the hub kept it in the ledger."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Kept(BaseModel):
    """Part of what was kept; what a newer hub adds is left out."""

    model_config = ConfigDict(extra="ignore")


class CandidateModel(Kept):
    """One place that was thought of for a launch, as it was then."""

    place: str
    words: str = Field(description="Its name for a person.")
    fit: Literal["now", "later", "crowded", "unknown", "never"]
    reason: str
    starts_at: AwareDatetime | None = Field(default=None, description="When there would be room, where it could tell.")
    as_of: AwareDatetime | None = Field(default=None, description="When it was seen; null: never.")


class PlacementModel(Kept):
    """Why a launch went where it went."""

    asked: str = Field(description="The place that the user named, or `auto`.")
    policy: str
    chosen: str = Field(description="The place: a backend, or a partition of one (`slurm:gpu`).")
    reason: str = Field(description="For a person.")
    decided_at: AwareDatetime
    candidates: list[CandidateModel] = Field(description="In the order in which they were to be tried.")
