"""The HTTP API and its live event streams."""
