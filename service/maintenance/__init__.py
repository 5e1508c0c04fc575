"""Loops that repair what crashes and outages leave behind; each has a `run_once`."""
