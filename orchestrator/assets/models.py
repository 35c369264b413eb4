"""The training set, the model and its predictions as assets.

Belongs here: keys, partitions, dependencies, and how the gate's decision shows. Does not belong here: how a model learns,
is judged or predicts (ml).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from feature_repo.definitions import VIEWS
from foundation.errors import AssayError
from foundation.settings import Settings
from orchestrator.alerts import KIND, REFUSED
from orchestrator.automation import any_partition
from orchestrator.gates import shut_days
from orchestrator.partitions import run_days
from orchestrator.reporting import column_lineage, described_schema, failure, lineage, on_last, report_parts
from orchestrator.timeline import GOES_ON_WITHOUT

if TYPE_CHECKING:
    from ml.tables import Columns
    from ml.training import ModelReport

TRAINING_SET = dg.AssetKey(["models", "arrival_delay_training_set"])
MODEL = dg.AssetKey(["models", "arrival_delay"])
PREDICTIONS = dg.AssetKey(["predictions", "arrival_delay"])
GATE = "gate"
OWNER = "team:machine-learning"
FEATURES = [dg.AssetKey(["features", view]) for view in VIEWS]
WEATHER = dg.AssetKey(["features", "origin_weather"])
# The day before is the newest history that can be known for a day; before the first day there is none.
DAY_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)
# Weather is known by the hour: a flight of the evening is predicted with that of its own day.
DAY_AND_DAY_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, allow_nonexistent_upstream_partitions=True)
# A month's model learns from every day before it; Dagster is told of the month before, the newest of them.
MONTH_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)
OF_THE_SAME_TIME = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def model_assets(
    settings: Settings, daily: dg.PartitionsDefinition, monthly: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """The training set and the registered model by month, and each scheduled flight's prediction by day."""
    return [_training_set(settings, monthly), _model(settings, monthly), _predictions(settings, daily)]


def _by_itself(settings: Settings, earlier: Sequence[dg.AssetKey] = ()) -> dg.AutomationCondition | None:
    """A month once all its days are there, and again when one of them changed: not a run a day."""
    return any_partition(earlier=earlier) if settings.training == "automatic" else None


def _training_set(settings: Settings, monthly: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=TRAINING_SET,
        deps=[
            dg.AssetDep(key, partition_mapping=OF_THE_SAME_TIME)
            for key in (dg.AssetKey(["gold", "flight_facts"]), *FEATURES)
        ],
        group_name="models",
        kinds={"feast", "iceberg"},
        owners=[OWNER],
        description=(
            "Each flight of the month of which the arrival is known, with what was known of it two hours before departure. "
            "Cancelled and diverted flights have no arrival, and are left out."
        ),
        metadata={"table": str(settings.table("models", "arrival_delay_training_set"))},
        partitions_def=monthly,
        backfill_policy=dg.BackfillPolicy.single_run(),
        automation_condition=_by_itself(settings),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=35), warn_window=timedelta(days=32)),
        pool="mlflow",
    )
    def arrival_delay_training_set(context: dg.AssetExecutionContext) -> None:
        from ml.training_set import COLUMNS, make_training_set

        months: dict[date | None, Mapping[str, Any]] = {}
        errors = shut_days(context, run_days(context))
        wanted = [month for month in run_days(context) if month not in errors]
        for outcome in make_training_set(settings, wanted, lineage(context, TRAINING_SET)) if wanted else ():
            if outcome.error is not None:
                errors[outcome.month] = outcome.error
                continue
            months[outcome.month] = {
                "dagster/partition_row_count": outcome.rows,
                "days": outcome.days,
                "left_out": {"cancelled": outcome.cancelled, "diverted": outcome.diverted},
                "unknown": outcome.unknown,
                "snapshots": _as_text(outcome.snapshots),
                "snapshot_id": str(outcome.snapshot_id),
            }
        report_parts(context, {TRAINING_SET: on_last(months, _columns(TRAINING_SET, COLUMNS))}, errors)

    return arrival_delay_training_set


def _model(settings: Settings, monthly: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=MODEL,
        deps=[dg.AssetDep(TRAINING_SET, partition_mapping=MONTH_BEFORE)],
        check_specs=[
            dg.AssetCheckSpec(
                GATE,
                asset=MODEL,
                description=(
                    "The challenger is better than the champion of the month before and than two baselines, on the same "
                    "flights, and calibrated. If not, it is refused and the champion stays: a warning."
                ),
                metadata={KIND: REFUSED},
            )
        ],
        group_name="models",
        kinds={"mlflow", "lightgbm"},
        owners=[OWNER],
        description="Will a flight arrive more than 15 minutes late? Month M learns from the days before M.",
        partitions_def=monthly,
        # Months in time order: each is judged against the champion of the one before.
        backfill_policy=dg.BackfillPolicy.single_run(),
        automation_condition=_by_itself(settings, [TRAINING_SET]),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=35), warn_window=timedelta(days=32)),
        pool="mlflow",
    )
    def arrival_delay(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from ml.registry import RegistryDown
        from ml.training import train
        from ml.training_set import COLUMNS

        by = f"dagster run {context.run.run_id}"
        made: dict[date, ModelReport] = {}
        errors = shut_days(context, run_days(context))
        for month in (one for one in run_days(context) if one not in errors):
            tags = {**lineage(context, MODEL), "dagster.partition": str(month)}
            try:
                made[month] = train(settings, month, tags, by)
            except RegistryDown as error:
                errors[month] = error
                break  # it would keep each of the other months waiting too
            except AssayError as error:
                errors[month] = error
        if not made:
            raise failure(list(errors.values()))
        yield _gate_result(list(made.values()))
        months: dict[date | None, Mapping[str, Any]] = {month: _metadata(report) for month, report in made.items()}
        report_parts(context, {MODEL: on_last(months, _columns(MODEL, COLUMNS))}, errors)
        yield dg.MaterializeResult(asset_key=MODEL)

    return arrival_delay


def _gate_result(reports: "Sequence[ModelReport]") -> dg.AssetCheckResult:
    """One result a run: Dagster has none a partition of a range. It passes if no month was refused."""
    refused = [report for report in reports if report.decision.action == "refuse"]
    last = reports[-1].decision
    return dg.AssetCheckResult(
        asset_key=MODEL,
        check_name=GATE,
        passed=not refused,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"refused: {', '.join(one.model.month for one in refused)}; their champions stay who they were"
            if refused
            else f"{last.action}: {last.why}"
        ),
        metadata={
            **({"next": "./assay models shows the scores; docs/ml.md says what to do"} if refused else {}),
            "decisions": dg.MetadataValue.table(
                [
                    dg.TableRecord(
                        {
                            "month": report.model.month,
                            "version": report.model.version,
                            "decision": report.decision.action,
                            "against": str(report.decision.against or "nobody"),
                            "why": report.decision.why,
                        }
                    )
                    for report in reports
                ]
            ),
            **{f"scores {one.model.month}": _scores(one) for one in reports},
        },
    )


def _metadata(report: "ModelReport") -> dict[str, Any]:
    """What a month's materialization says."""
    links: dict[str, Any] = {}
    if report.page is not None:
        links = {"mlflow": dg.MetadataValue.url(report.page)}
        for plot in ("roc", "precision_recall", "reliability"):
            links[plot] = dg.MetadataValue.url(f"{report.page}/artifacts/plots/{plot}.png")
    return {
        "model": f"{report.model.name} version {report.model.version}",
        "reused": report.reused,
        "decision": f"{report.decision.action} (number {report.decision.number} of the log)",
        "why": report.decision.why,
        "against": f"version {report.decision.against}" if report.decision.against else "no champion yet",
        "scores": _scores(report),
        **{f"brier_of_{who}": one["brier"] for who, one in report.scores.items() if "brier" in one},
        **{what: report.scores["challenger"][what] for what in ("roc_auc", "pr_auc", "log_loss", "ece")},
        "rows": report.rows,
        "trained_through": str(report.model.trained_through),
        "judged_on": f"{report.parts.gate[0]} to {report.parts.gate[-1]}",
        "mlflow_run_id": report.model.run_id,
        "snapshots": {table: [str(one) for one in ids] for table, ids in report.model.snapshots.items()},
        **links,
    }


def _scores(report: "ModelReport") -> dg.TableMetadataValue:
    """Everybody on the gate's flights; of Brier, log loss and ECE less is better."""
    columns = ("brier", "log_loss", "ece", "roc_auc", "pr_auc")
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"who": who, **{column: one[column] for column in columns}})
            for who, one in sorted(report.scores.items())
            if "brier" in one
        ]
    )


def _predictions(settings: Settings, daily: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    histories = [key for key in FEATURES if key != WEATHER]

    @dg.asset(
        key=PREDICTIONS,
        deps=[
            dg.AssetDep(dg.AssetKey(["silver", "schedule"])),
            *(dg.AssetDep(key, partition_mapping=DAY_BEFORE) for key in histories),
            dg.AssetDep(WEATHER, partition_mapping=DAY_AND_DAY_BEFORE),
            dg.AssetDep(MODEL, partition_mapping=OF_THE_SAME_TIME),
        ],
        group_name="predictions",
        kinds={"mlflow", "iceberg"},
        owners=[OWNER],
        description="Each scheduled flight, predicted two hours before departure from schedule and features alone.",
        metadata={
            "table": str(settings.table("predictions", "arrival_delay")),
            # An older model predicts until the month's own is there.
            GOES_ON_WITHOUT: [MODEL.to_user_string(), WEATHER.to_user_string()],
        },
        partitions_def=daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=26)
        ),
        # The weather of a day that is still to come is not there, and its flights are predicted nevertheless.
        automation_condition=any_partition(optional=[WEATHER], earlier=FEATURES),
        pool="mlflow",
    )
    def predictions(context: dg.AssetExecutionContext) -> None:
        from ml.predicting import COLUMNS, predict

        days: dict[date | None, Mapping[str, Any]] = {}
        errors = shut_days(context, run_days(context))
        wanted = [day for day in run_days(context) if day not in errors]
        for outcome in predict(settings, wanted, lineage(context, PREDICTIONS)) if wanted else ():
            if outcome.error is not None or outcome.model is None:
                errors[outcome.day] = outcome.error or AssayError(f"{outcome.day} was not predicted", "run this again")
                continue
            days[outcome.day] = {
                "dagster/partition_row_count": outcome.rows,
                "unknown": outcome.unknown,
                "mean_probability": outcome.mean_probability or 0.0,
                "model": f"{outcome.model.name} version {outcome.model.version}",
                "schedule_snapshot_id": str(outcome.schedule_snapshot_id),
                "snapshots": _as_text(outcome.snapshots),
                "snapshot_id": str(outcome.snapshot_id),
            }
        report_parts(context, {PREDICTIONS: on_last(days, _columns(PREDICTIONS, COLUMNS))}, errors)

    return predictions


def _columns(key: dg.AssetKey, columns: "Columns") -> dict[str, Any]:
    """The columns of one of these assets, and what each is made of. Those of the model, which is no table, are its inputs and
    what it learns, as the training set has them."""
    from orchestrator.domain_lineage import columns_of

    made = columns_of(key.to_user_string())
    types = {name: kind for name, kind, _ in columns}
    return {**described_schema({name: (types[name], "") for name in made}), **column_lineage(made)}


def _as_text(snapshots: Mapping[str, int]) -> dict[str, str]:
    """Numbers of nineteen digits lose some in a browser."""
    return {table: str(snapshot) for table, snapshot in snapshots.items()}
