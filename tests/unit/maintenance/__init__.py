"""Rounds of maintenance."""
