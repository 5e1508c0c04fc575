"""Runs jobs: reads entries, claims them, performs attempts, records how they ended."""
