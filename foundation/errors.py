"""The one error type that people read.

Belongs here: the shape of a message (what failed, where, what to do next). Does not belong here: any message's text.
"""


class AssayError(Exception):
    """Something a person can mend.

    Args:
        what: what failed and where (file, row, table, partition), one sentence without a full stop.
        next_action: what to type or change next, one sentence without a full stop.
    """

    def __init__(self, what: str, next_action: str) -> None:
        super().__init__(what, next_action)
        self.what = what
        self.next_action = next_action

    def __str__(self) -> str:
        return f"{self.what}.\nNext: {self.next_action}."
