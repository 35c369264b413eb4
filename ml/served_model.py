"""The model as it is registered and served: plain columns in, a probability out.

Belongs here: encoding and scoring, and nothing of the platform, because MLflow copies this one file into every model
version and runs it where the platform is not installed. Does not belong here: training. Never imported by `import ml`.
"""

import json
from pathlib import Path
from typing import Any

import lightgbm
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


class DelayModel(PythonModel):
    """LightGBM with its encoding; `delayed` says more likely than not."""

    booster: lightgbm.Booster  # pyright: ignore[reportUninitializedInstanceVariable]
    encoding: dict[str, Any]  # pyright: ignore[reportUninitializedInstanceVariable]

    def load_context(self, context: Any) -> None:
        """Reads the trees and the encoding from the model's artifacts."""
        self.booster = lightgbm.Booster(model_file=context.artifacts["booster"])
        self.encoding = json.loads(Path(context.artifacts["encoding"]).read_text())

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The probability that each flight arrives more than 15 minutes late.

        Returns:
            `delay_probability` (0 to 1) and `delayed`, a row per input row.
        """
        probability = self.booster.predict(encode(model_input, self.encoding), num_threads=1)
        answer = pd.DataFrame({"delay_probability": probability}, index=model_input.index)
        return answer.assign(delayed=answer["delay_probability"] > 0.5)


set_model(DelayModel())
