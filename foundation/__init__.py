"""What everybody may know: settings, clock, names, errors and the contract model.

Belongs here: small typed facts that every other folder asks for. Does not belong here: engines, files of data, Dagster.
This package imports nothing else of the project.
"""
