"""Streams on a real Valkey or Redis."""
