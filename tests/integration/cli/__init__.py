"""The command line against real processes and servers."""
