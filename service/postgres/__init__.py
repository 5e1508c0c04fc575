"""Postgres: the truth. One statement per file in `queries`; every transition is guarded."""
