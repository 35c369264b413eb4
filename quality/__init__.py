"""Whether a table's days look like the days before them: what rules of single rows cannot see.

Belongs here: profiles of days, the suites of Great Expectations that judge them, their results and pages. Does not belong
here: Dagster, and rules of rows (spark_assets/classify, dbt's constraints and tests).
"""
