"""How files come in: the vendor's landing folder, the archive of every version, and the ledger of what arrived;
and a first contract guessed from a sample.

Belongs here: plain Python on files. Does not belong here: Spark, Dagster, or a look inside rows that have a contract.
"""
