"""`azureml.core` with `Model` alone. Must never be imported by scorefront."""

from azureml.core.model import Model

__all__ = ["Model"]
