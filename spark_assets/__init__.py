"""Bronze and Silver: DataFrame in, DataFrame out, and how Iceberg is written from Spark.

Belongs here: what a contract means as Spark columns, write–audit–publish. Does not belong here: Dagster, files' arrival
(intake), business rules (dbt's Gold). Knows foundation and intake only.
"""
