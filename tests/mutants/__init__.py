"""Bugs that somebody might write one day, and the tests that would catch them."""
