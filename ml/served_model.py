"""The model as it is registered and served: plain columns in, a probability out.

Belongs here: encoding and scoring, and nothing of the platform, because MLflow copies this one file into every model
version and runs it where the platform is not installed. Does not belong here: training. Never imported by `import ml`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


def encode(frame: pd.DataFrame, encoding: dict[str, Any]) -> pd.DataFrame:
    """Turns plain columns into what LightGBM learnt from.

    Args:
        frame: the model's columns; others are ignored.
        encoding: `categorical` (column to the list of values seen in training) and `numeric` (columns). A value that
            was not seen becomes missing, which LightGBM knows how to treat.
    """
    columns: dict[str, Any] = {
        name: pd.Categorical(frame[name], categories=values) for name, values in encoding["categorical"].items()
    }
    columns |= {name: frame[name].to_numpy(dtype="float64", na_value=float("nan")) for name in encoding["numeric"]}
    return pd.DataFrame(columns, index=frame.index)


def matrix(frame: pd.DataFrame, encoding: dict[str, Any]) -> np.ndarray:
    """What `encode` says, as the numbers that LightGBM makes of it: a category is its place in the list. For one flight it
    takes a tenth of the time, most of which pandas and LightGBM spend on each column."""
    places = [
        [encoding_of.get(value, float("nan")) for value in frame[name]]
        for name, values in encoding["categorical"].items()
        for encoding_of in [{value: float(place) for place, value in enumerate(values)}]
    ]
    numbers = frame.loc[:, encoding["numeric"]].to_numpy(dtype="float64", na_value=float("nan"))
    return np.column_stack([*(np.asarray(column, dtype="float64") for column in places), numbers])


def calibrate(logits: Any, calibration: dict[str, float]) -> np.ndarray:
    """Probabilities of the trees' raw scores, by Platt: the logit of what happened is a line over the logit of what was
    said."""
    return 1 / (1 + np.exp(-(calibration["slope"] * np.asarray(logits) + calibration["intercept"])))


class DelayModel(PythonModel):
    """LightGBM with its encoding and calibration; `delayed` says more likely than not."""

    booster: lightgbm.Booster  # pyright: ignore[reportUninitializedInstanceVariable]
    encoding: dict[str, Any]  # pyright: ignore[reportUninitializedInstanceVariable]

    def load_context(self, context: Any) -> None:
        """Reads the trees and the encoding from the model's artifacts.

        Raises:
            ValueError: the trees are not those that were registered. LightGBM itself may read half a file.
        """
        self.encoding = json.loads(Path(context.artifacts["encoding"]).read_text())
        trees = Path(context.artifacts["booster"]).read_bytes()
        if hashlib.sha256(trees).hexdigest() != self.encoding["booster_sha256"]:
            raise ValueError(
                f"{context.artifacts['booster']} is damaged: its SHA-256 is not the one that was registered"
            )
        self.booster = lightgbm.Booster(model_str=trees.decode())

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The probability that each flight arrives more than 15 minutes late.

        Returns:
            `delay_probability` (0 to 1) and `delayed`, a row per input row.
        """
        logits = self.booster.predict(matrix(model_input, self.encoding), raw_score=True, num_threads=1)
        probability = calibrate(logits, self.encoding["calibration"])
        answer = pd.DataFrame({"delay_probability": probability}, index=model_input.index)
        return answer.assign(delayed=answer["delay_probability"] > 0.5)


set_model(DelayModel())
