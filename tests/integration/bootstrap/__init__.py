"""Whole processes: how they start, what a failed start leaves, and how they end."""
