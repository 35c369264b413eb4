"""The features of the platform, declared for Feast and readable point in time.

Belongs here: Feast's entities, sources, views and services, how they are applied, materialized and read. Does not
belong here: how a feature's number is made (SQL in dbt_project/models/gold) or what learns from it (ml/). The `feast`
command works in this folder alone, with what `./assay env` exports.
"""
