"""Scores iris flowers, as an entry script of Azure ML v1 does."""

import json
from typing import Any

import joblib
from azureml.core.model import Model

model: Any = None


def init() -> None:
    """Load the model."""
    global model
    model = joblib.load(Model.get_model_path("iris"))


def run(data: str) -> Any:
    """`{"data": [[5.1, 3.5, 1.4, 0.2], ...]}` -> the number of the species for each row."""
    return model.predict(json.loads(data)["data"]).tolist()
