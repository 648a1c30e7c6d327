"""Scores iris flowers. `init` runs once per replica, `run` once per request. AZUREML_MODEL_DIR holds the model."""

import json
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from azureml_inference_server_http.api.aml_response import AMLResponse

FEATURES = ("sepal length", "sepal width", "petal length", "petal width")
MAX_ROWS = 10_000

model: Any = None


class BadInput(ValueError):
    """Invalid request; the text describes the expected format."""


def init() -> None:
    """Load the model."""
    global model
    model = joblib.load(Path(os.environ["AZUREML_MODEL_DIR"]) / "model.joblib")


def run(data: str) -> Any:
    """`{"data": [[5.1, 3.5, 1.4, 0.2], ...]}`, centimetres -> species and probabilities, one of each per row."""
    try:
        rows = read_rows(data)
    except BadInput as error:
        return AMLResponse({"error": str(error)}, 400, json_str=True)
    probabilities = model["classifier"].predict_proba(rows)
    names = model["classes"]
    return {
        "predictions": [names[index] for index in probabilities.argmax(axis=1)],
        "probabilities": [dict(zip(names, map(float, row.round(4)), strict=True)) for row in probabilities],
    }


def read_rows(data: str) -> np.ndarray:
    """The rows of a request as an array (rows, 4). Raises BadInput."""
    expected = f'send {{"data": [[{", ".join(FEATURES)}], ...]}}, in centimetres'
    try:
        rows = np.array(json.loads(data)["data"], dtype=float)
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(expected) from error
    if rows.ndim != 2 or rows.shape[1] != len(FEATURES) or not np.isfinite(rows).all():
        raise BadInput(expected)
    if not 1 <= len(rows) <= MAX_ROWS:
        raise BadInput(f"send 1 to {MAX_ROWS} rows, got {len(rows)}")
    return rows
