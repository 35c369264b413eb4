"""What the columns of the domain's own assets are made of, as far as neither a contract nor a dbt model says it.

Belongs here: an entry for each asset of domain.py. Does not belong here: Dagster, which would make `./assay lineage` slow.
"""

from orchestrator.lineage import Made


def domain_columns() -> list[Made]:
    """None yet. One of an asset `features/x` of which a column is Gold's:

    Made("features/x", "feature_repo/definitions.py", {"amount": [Node("gold/x", "amount")]})
    """
    return []
