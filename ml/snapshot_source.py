"""How MLflow is told which snapshot of which Iceberg table a dataset came from.

Belongs here: that one source type, because MLflow takes a bare `table@snapshot` for the path of a local file. Does not
belong here: reading the table. Imports MLflow, so it is imported only where MLflow is needed anyway.
"""

from typing import Any, Self

from mlflow.data.dataset_source import DatasetSource

from foundation.errors import AssayError


class SnapshotSource(DatasetSource):
    """`<table>@<snapshot>`, as in `lake.gold.facts@5697311527351787395`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @staticmethod
    def _get_source_type() -> str:
        return "iceberg"

    def load(self, **_: Any) -> Any:
        """Not from here: MLflow does not know the catalog.

        Raises:
            AssayError: always, with how to read it.
        """
        raise AssayError(
            f"MLflow cannot read {self.uri}", "read it with load_table(…).scan(snapshot_id=…) of foundation.lake"
        )

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        # Never guessed from a string: it is only ever given as an object.
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> Self:
        return cls(str(raw_source))

    def to_dict(self) -> dict[Any, Any]:
        """What MLflow stores and shows."""
        return {"uri": self.uri}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> Self:
        """The source that MLflow stored."""
        return cls(source_dict["uri"])
