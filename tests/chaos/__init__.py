"""Seeded chaos: real processes under a plan of faults, judged by ledgers of the test's own."""
