"""Collection of model data, under the names of v1. Must never be imported by scorefront."""

from azureml.monitoring.modeldatacollector import ModelDataCollector

__all__ = ["ModelDataCollector"]
