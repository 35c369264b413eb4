"""Silver: typed, deduplicated, UTC. `classify` gives each Bronze row its one fate; `publish` writes, checks and publishes.

Belongs here: one module a feed that needs more than casts and keys, with `transform(df, refs) -> df`, which fills the
contract's derived columns and neither adds nor drops a row. Does not belong here: rules of the business (Gold).
"""
