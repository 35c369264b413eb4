"""Where the platform runs: `embedded/` is the laptop, `production/` holds files for clusters.

Belongs here: how processes are fetched, started, supervised and described. Does not belong here: what the processes do
with data; nothing in this package imports `orchestrator`, `spark_assets` or `ml`.
"""
