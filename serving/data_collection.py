"""Declared collection of payloads."""

from pydantic import Field

from serving.declared_model import DeclaredModel, Number


class DataCollection(DeclaredModel):
    """Collection of requests and responses."""

    storageEnabled: bool = Field(False, description="Keep requests and responses.")
    samplingPercent: Number = Field(
        100, ge=0, le=100, allow_inf_nan=False, description="Percent of the requests that are kept."
    )
    maxBodyBytes: int = Field(
        4_000_000,
        ge=1,
        le=100_000_000,
        description="Longest body kept within its record; a longer one becomes a file that the record refers to.",
    )
