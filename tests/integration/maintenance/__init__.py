"""Relay and reconciler on real servers: what they repair, and what they leave alone."""
