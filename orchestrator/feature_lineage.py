"""What the columns of a feature view are made of: those of the table of Gold with its name.

Belongs here: that, for the graph and the command line alike. Does not belong here: Dagster, which would make `./assay
lineage` slow, and what reads features (domain_lineage).
"""

from feature_repo.views import AVAILABLE_AT, View
from orchestrator.lineage import Made, Node

# The files that make them: of two that one imports, only what is about rows.
FEAST = ("feature_repo/configuration.py", "feature_repo/store.py", "feature_repo/views.py")
CODE = (*FEAST, "feature_repo/online.py")


def made_of(view: View) -> Made:
    """The columns of `features/<view>`, and the day that chooses its rows."""
    gold = f"gold/{view.name}"
    columns = (view.key, *view.counts, *view.numbers, AVAILABLE_AT)
    return Made(
        f"features/{view.name}",
        f"Feast's view {view.name}",
        {column: [Node(gold, column)] for column in columns},
        [Node(gold, view.day)],
        CODE,
        {name: value for name, value in vars(view).items() if name != "description"},
    )
