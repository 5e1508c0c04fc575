"""The contracts between rooms that cannot see each other; bootstrap plugs them together."""
