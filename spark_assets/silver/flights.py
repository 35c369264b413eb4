"""What the flights of 2013 need beyond casts and keys: the same as their schedule."""

from spark_assets.silver.schedule import transform

__all__ = ["transform"]
