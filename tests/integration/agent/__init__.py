"""Agents against models over HTTP."""
