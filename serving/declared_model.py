"""Common configuration of the pydantic models of the declared object."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, model_validator

DAY_S = 86_400


def _whole_if_possible(number: float) -> int | float:
    return int(number) if number == int(number) else number


Number = Annotated[float, PlainSerializer(_whole_if_possible)]


@dataclass(frozen=True, slots=True)
class FieldRule:
    """The rule of a field, to be read after "must be"; only if type and bounds of the field do not express it."""

    sentence: str


class DeclaredModel(BaseModel):
    """Common configuration of all parts of the declared object."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, data: Any) -> Any:
        # The azureml SDK sends null for omitted values.
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
