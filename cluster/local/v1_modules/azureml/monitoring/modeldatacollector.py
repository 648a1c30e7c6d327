"""`ModelDataCollector` without a store: accepted by scripts, and silent."""

from typing import Any

_NOTE = (
    "Data collection is not enabled: ModelDataCollector.collect keeps nothing. Requests and responses are kept where"
    " dataCollection.storageEnabled is true."
)
_noted = False


class ModelDataCollector:
    """A collector that is not enabled: it keeps nothing, as v1's without AML_MODEL_DC_STORAGE_ENABLED."""

    def __init__(
        self, model_name: str, designation: str = "default", feature_names: Any = None, *more: Any, **options: Any
    ) -> None:
        """A collector of one kind of data; the first of a process prints a line.

        model_name: of the model.
        designation: kind of data, e.g. inputs or predictions.
        feature_names: columns.
        more, options: further arguments of v1, without effect.
        """
        global _noted
        if not _noted:
            print(_NOTE)
            _noted = True

    def collect(self, input_data: Any, user_correlation_id: str = "") -> None:
        """Keep nothing; None, as in v1."""

    def add_correlations(self, input_data: Any, correlations: Any) -> Any:
        """The data as given."""
        return input_data
