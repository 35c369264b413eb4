"""The command line, `./assay …`.

Belongs here: what a person types and reads. Does not belong here: what the platform does; a command calls it.
"""
