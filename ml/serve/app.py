"""The HTTP interface: POST /predict, GET /health, GET /metrics, and OpenAPI at /docs.

Belongs here: from a request to an answer. Does not belong here: shapes (schema.py), which version answers (champions.py).
https://fastapi.tiangolo.com/advanced/events/
"""

import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from foundation import clock
from foundation.errors import AssayError
from foundation.settings import Settings
from ml.features import online_inputs
from ml.serve.champions import Champions, Loaded
from ml.serve.schema import Answer, Flights, Health, Refusal, ScheduledFlight

# How old the server's knowledge of the promotion log may be.
LOOK_EVERY_SECONDS = 10.0
NOT_READY = 503
# The answers that are asked for are within 60 ms; the buckets tell more there.
BUCKETS = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """What Prometheus asks for, in a registry of its own: a test may make two servers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "assay_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "assay_predict_seconds", "Time to answer /predict", buckets=BUCKETS, registry=self.registry
        )
        self.flights = Counter(
            "assay_flights", "Flights answered by model version", ["model_version"], registry=self.registry
        )
        self.missing = Counter(
            "assay_features_missing",
            "Flights by view and why its row was not used",
            ["view", "why"],
            registry=self.registry,
        )
        self.lookup_failures = Gauge(
            "assay_champion_lookup_failures",
            "Failed looks at the promotion log since the start",
            registry=self.registry,
        )
        self.lookup_age = Gauge(
            "assay_champion_lookup_age_seconds", "How long ago the promotion log answered", registry=self.registry
        )


def create_app(settings: Settings, look_every_seconds: float = LOOK_EVERY_SECONDS) -> FastAPI:
    """The application, for uvicorn and for tests.

    Args:
        settings: the environment whose champion and online store answer.
        look_every_seconds: how soon a new champion is taken.
    """
    champions = Champions(settings, look_every_seconds)
    metrics = Metrics()
    # One at a time: both halves hold the interpreter's lock anyway, and taking turns at it made the slowest answers slower.
    answering = threading.Lock()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        champions.start()
        yield
        champions.stop()

    app = FastAPI(
        title="Assay: arrival_delay",
        description="Will a scheduled flight arrive more than 15 minutes late?",
        version="1",
        lifespan=lifespan,
    )

    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Response:
        began = time.perf_counter()
        response = await call_next(request)
        route = request.scope.get("route")
        metrics.requests.labels(getattr(route, "path", "unknown"), str(response.status_code)).inc()
        if request.url.path == "/predict":
            metrics.seconds.observe(time.perf_counter() - began)
        return response

    @app.exception_handler(AssayError)
    async def refuse(_: Request, error: AssayError) -> JSONResponse:
        return JSONResponse({"error": error.what, "next": error.next_action}, NOT_READY)

    @app.post("/predict", responses={NOT_READY: {"model": Refusal, "description": "No champion, or no feature store"}})
    def predict(flights: Flights) -> Answer | list[Answer]:
        """The probability that a scheduled flight arrives more than 15 minutes late; of a list, an answer each."""
        asked = flights if isinstance(flights, list) else [flights]
        with answering:
            answers = answer(settings, champions, asked)
        for one in answers:
            metrics.flights.labels(str(one.model_version)).inc()
            for why, views in (("unknown", one.unknown), ("stale", one.stale)):
                for view in views:
                    metrics.missing.labels(view, why).inc()
        return answers if isinstance(flights, list) else answers[0]

    @app.get("/health", responses={NOT_READY: {"model": Health, "description": "Nobody would be answered today"}})
    def health(response: Response) -> Health:
        """Whether flights of today, by the platform's clock, would be answered."""
        version, problem = None, champions.problem
        try:
            version = champions.of(clock.now(settings).date()).registered.version
        except AssayError as error:
            response.status_code = NOT_READY
            problem = str(error)
        return Health(
            status="ok" if version is not None else "no champion",
            model_version=version,
            looked_up_seconds_ago=champions.looked_seconds_ago,
            problem=problem,
        )

    @app.get("/metrics", response_class=PlainTextResponse)
    def tell_metrics() -> Response:
        """Counts and times, as Prometheus reads them."""
        metrics.lookup_failures.set(champions.failures)
        metrics.lookup_age.set(champions.looked_seconds_ago or 0)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def answer(settings: Settings, champions: Champions, flights: Sequence[ScheduledFlight]) -> list[Answer]:
    """Features of all flights in one question, then the champion of each month on its own."""
    by_month: dict[int, tuple[Loaded, list[int]]] = {}
    for row, flight in enumerate(flights):
        loaded = champions.of(flight.flight_date)
        by_month.setdefault(loaded.registered.version, (loaded, []))[1].append(row)
    now = clock.now(settings)
    inputs = online_inputs(settings, [{**flight.model_dump(), "scheduled_departure": None} for flight in flights])
    answers: dict[int, Answer] = {}
    for loaded, rows in by_month.values():
        said = loaded.predict(inputs.frame.iloc[rows])
        for row, probability, delayed in zip(rows, said["delay_probability"], said["delayed"], strict=True):
            answers[row] = Answer(
                probability=float(probability),
                delayed=bool(delayed),
                model_version=loaded.registered.version,
                predicted_as_of=now,
                feature_age_hours=inputs.age_hours[row],
                unknown=inputs.unknown[row],
                stale=inputs.stale[row],
            )
    return [answers[row] for row in range(len(flights))]
