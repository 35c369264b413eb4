"""What is asked and what is answered, as OpenAPI shows it.

Belongs here: names, types and limits of requests and answers. Does not belong here: how an answer is found.
"""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

# A day of New York's airports; the online store and the model are asked once for all of them.
MOST_FLIGHTS = 1000


def _clock_time(hhmm: int) -> int:
    if hhmm % 100 > 59:
        raise ValueError(f"{hhmm} is no time of a day: hhmm, as in 1745")
    return hhmm


ClockTime = Annotated[int, Field(ge=0, le=2400, description="Local time as hhmm, 1745."), AfterValidator(_clock_time)]
Airport = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="IATA code of an airport, JFK.")]


class ScheduledFlight(BaseModel):
    """A flight as the schedule has it, before it leaves."""

    # A misspelled name would otherwise be an unknown aircraft, silently.
    model_config = ConfigDict(extra="forbid")

    flight_date: date = Field(description="The local day of the scheduled departure.")
    carrier: str = Field(pattern=r"^[0-9A-Z]{2}$", description="IATA code of the carrier, UA.")
    flight: int = Field(ge=1, le=9999, description="Flight number.")
    origin: Airport
    dest: Airport
    tailnum: str | None = Field(None, min_length=1, max_length=10, description="The aircraft's registration, if known.")
    sched_dep_time: ClockTime
    sched_arr_time: ClockTime
    distance: float = Field(gt=0, le=12_500, description="Miles between the airports.")


def _how_many(body: Any) -> str:
    return "flights" if isinstance(body, list) else "flight"


Flights = Annotated[
    Annotated[ScheduledFlight, Tag("flight")]
    | Annotated[list[ScheduledFlight], Field(min_length=1, max_length=MOST_FLIGHTS), Tag("flights")],
    Discriminator(_how_many),
]


class Answer(BaseModel):
    """What is said of one flight."""

    # pydantic keeps `model_` for itself otherwise
    model_config = ConfigDict(protected_namespaces=())

    probability: float = Field(description="Of arriving more than 15 minutes late, 0 to 1.")
    delayed: bool = Field(description="Whether that is more likely than not.")
    model_version: int = Field(description="The registered version that answered: the champion of the flight's month.")
    predicted_as_of: datetime = Field(description="The moment whose knowledge was used, by the platform's clock, UTC.")
    feature_age_hours: dict[str, float | None] = Field(
        description="By feature view, how long ago its row became available; null if it has none."
    )
    unknown: list[str] = Field(description="Views without a row for this flight; their features count as missing.")
    stale: list[str] = Field(
        description="Views whose row is older than their time to live; their features count as missing."
    )


class Refusal(BaseModel):
    """Why there is no answer, and what to do."""

    error: str
    next: str


class Health(BaseModel):
    """Whether flights of today, by the platform's clock, would be answered."""

    model_config = ConfigDict(protected_namespaces=())

    status: str = Field(description="`ok`, or `no champion`.")
    model_version: int | None = Field(description="Today's champion.")
    looked_up_seconds_ago: float | None = Field(description="How long ago the promotion log was last read.")
    problem: str | None = Field(description="Why the last look at the promotion log failed; null if it did not.")
