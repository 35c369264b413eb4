"""What the columns of the domain's own assets are made of, as far as neither a contract nor a dbt model says it.

Belongs here: an entry for each asset of domain.py. Does not belong here: Dagster, which would make `./assay lineage` slow.
"""

from feature_repo.definitions import ALL_VIEWS
from orchestrator.feature_lineage import made_of
from orchestrator.lineage import Made


def domain_columns() -> list[Made]:
    """Those of the feature views. One of an asset of your own, of which a column is Gold's:

    Made("models/x", "ml/x.py", {"amount": [Node("gold/x", "amount")]})
    """
    return [made_of(view) for view in ALL_VIEWS.values()]
