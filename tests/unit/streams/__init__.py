"""Streams in an in-process Redis."""
