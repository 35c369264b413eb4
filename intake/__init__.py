"""How files come in: the vendor's landing folder, the archive of every version, and the ledger of what arrived.

Belongs here: plain Python on files. Does not belong here: Spark, Dagster, or a look inside the rows.
"""
