"""Tests, by kind first and then by room."""
