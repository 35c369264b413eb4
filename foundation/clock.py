"""The one clock that "due", "late" and "age" are asked of.

Belongs here: what time the platform thinks it is. Does not belong here: schedules. Durations of work are measured with
`time.monotonic`, never with this clock.
"""

from datetime import UTC, datetime

from foundation.settings import Settings


def now(settings: Settings) -> datetime:
    """The platform's time in UTC: `ASSAY_NOW` if it is set (the demo lives in 2013), else the real one."""
    moment = settings.now or datetime.now(UTC)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
