"""Agents without servers."""
