"""What a person types as an argument, as the type that it means.

Belongs here: what several commands share. Does not belong here: what a command does with it.
"""

from datetime import date

from foundation.errors import AssayError


def day_of(text: str) -> date:
    """A day.

    Raises:
        AssayError: it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise AssayError(f"{text!r} is no day", "write it as 2013-06-01") from None
