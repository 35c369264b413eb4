"""Which version answers for which month, kept up to date beside the requests.

Belongs here: asking the promotion log, loading models, swapping them. Does not belong here: who is champion (ml/promotion).

A thread looks every few seconds, so that no request waits for MLflow but the first of a month. A new champion is loaded
beside the old one, which answers until then. If MLflow does not answer, the old one goes on, and health and metrics say so.
"""

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from foundation.settings import Settings
from ml.features import MODEL_COLUMNS
from ml.predicting import champion_of
from ml.registry import RegisteredModel, load_model, refuse_other_columns

if TYPE_CHECKING:
    import pandas as pd

# Months are asked for by clients: without a bound, nonsense in requests would fill the memory.
MONTHS_KEPT = 24

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A version in memory.

    Args:
        inside: the model without MLflow around it, which looks at the type of each column of each request, 2 of 9 ms: ours
            have their types.
    """

    registered: RegisteredModel
    inside: Any

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """`delay_probability` and `delayed`, a row an input row."""
        return self.inside.predict(None, frame)


class Champions:
    """The champions of the months that were asked for.

    Args:
        settings: the environment whose registry is asked.
        every_seconds: how old an answer of the promotion log may become.
    """

    def __init__(self, settings: Settings, every_seconds: float) -> None:
        self.settings = settings
        self.every_seconds = every_seconds
        self.problem: str | None = None
        self.failures = 0
        self._looked_at: float | None = None
        self._by_month: OrderedDict[date, Loaded] = OrderedDict()
        # One for changes of the table above, one so that two first requests of a month load one model.
        self._table = threading.Lock()
        self._loading = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="champions", daemon=True)

    def start(self) -> None:
        """Begins to look for new champions."""
        self._thread.start()

    def stop(self) -> None:
        """Ends that, and waits for a look that is under way."""
        self._stop.set()
        self._thread.join()

    @property
    def looked_seconds_ago(self) -> float | None:
        """How long ago the promotion log answered last; None if it never did."""
        return None if self._looked_at is None else time.monotonic() - self._looked_at

    def of(self, month: date) -> Loaded:
        """The champion of a month.

        Args:
            month: any day of it.

        Raises:
            AssayError: the month has none, or MLflow does not answer and the month was never asked for before.
        """
        first = month.replace(day=1)
        with self._table:
            if (known := self._by_month.get(first)) is not None:
                self._by_month.move_to_end(first)
                return known
        with self._loading:
            if (known := self._by_month.get(first)) is not None:
                return known
            found = self._load(champion_of(self.settings, first))
            with self._table:
                self._by_month[first] = found
                while len(self._by_month) > MONTHS_KEPT:
                    self._by_month.popitem(last=False)
            return found

    def look(self) -> None:
        """Asks the promotion log for every month in use, and swaps what changed."""
        with self._table:
            months = list(self._by_month)
        try:
            for month in months:
                with self._loading:
                    found = self._load(champion_of(self.settings, month))
                self._swap(month, found)
            self.problem = None
        except (
            Exception
        ) as error:  # whatever it is, the versions that are there go on answering and the next look comes
            self.failures += 1
            self.problem = str(error) or type(error).__name__
            log.exception("The look for new champions failed; those so far go on")

    def _look_on(self) -> None:
        while not self._stop.wait(self.every_seconds):
            self.look()

    def _swap(self, month: date, found: Loaded) -> None:
        with self._table:
            before = self._by_month.get(month)
            if before is None:  # it was dropped meanwhile
                return
            self._by_month[month] = found
        old, new = before.registered, found.registered
        if old.run_id != new.run_id:
            log.info("%s: %s version %d answers instead of %d", f"{month:%Y-%m}", new.name, new.version, old.version)

    def _load(self, registered: RegisteredModel) -> Loaded:
        """A version that is in memory is not loaded again.

        Raises:
            AssayError: its files are damaged or gone, or it learnt from columns that are no more.
        """
        self._looked_at = time.monotonic()
        with self._table:
            for loaded in self._by_month.values():
                if loaded.registered.run_id == registered.run_id:  # numbers are its base's and a branch's
                    return loaded
        model = load_model(self.settings, registered)
        refuse_other_columns(model, registered, MODEL_COLUMNS)
        return Loaded(registered, model.unwrap_python_model())
