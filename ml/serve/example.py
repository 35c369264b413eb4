"""One flight, asked for as a client would: for the demo.

Belongs here: choosing it. Does not belong here: answering (app.py).
"""

from datetime import date

from foundation.errors import AssayError
from foundation.lake import load_table
from foundation.settings import Settings
from ml.features import KEY, on_days
from ml.predicting import PREDICTIONS
from ml.serve.app import answer
from ml.serve.champions import Champions
from ml.serve.schema import Answer, ScheduledFlight


def likeliest_to_be_late(settings: Settings, day: date) -> tuple[ScheduledFlight, Answer]:
    """The flight of a predicted day that is most likely to be late, and what `./assay serve` says of it now.

    Raises:
        AssayError: the day was not predicted.
    """
    predicted = load_table(settings, *PREDICTIONS).scan(
        row_filter=on_days([day]), selected_fields=(*KEY, "delay_probability")
    )
    rows = predicted.to_arrow().to_pylist()
    if not rows:
        raise AssayError(f"No flight of {day} is predicted", f"materialize predictions/arrival_delay for {day}")
    likeliest = max(rows, key=lambda row: row["delay_probability"])
    schedule = load_table(settings, "silver", "schedule").scan(
        row_filter=on_days([day]), selected_fields=tuple(ScheduledFlight.model_fields)
    )
    planned = next(row for row in schedule.to_arrow().to_pylist() if all(row[name] == likeliest[name] for name in KEY))
    flight = ScheduledFlight(**planned)
    [said] = answer(settings, Champions(settings, every_seconds=60), [flight])
    return flight, said
