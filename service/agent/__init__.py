"""Agents and the models they call."""
