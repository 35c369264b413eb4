"""The assets, one module an engine: lake (Spark), warehouse (dbt on Trino and ClickHouse), features (Feast), models (MLflow).

Belongs here: keys, partitions, dependencies, owners, and which pure function makes an asset. Does not belong here: the
making itself.
"""
