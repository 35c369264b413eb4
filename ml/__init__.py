"""Learning from Gold, and judging what has not happened yet.

Belongs here: building a training set, training, choosing a model, predicting, scoring: plain functions that a notebook
can call. Does not belong here: Dagster, how features are computed (dbt) or looked up (feature_repo/), or when anything
runs. Heavy packages are imported inside functions: `import ml` costs nothing.
"""
