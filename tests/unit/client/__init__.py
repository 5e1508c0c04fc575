"""The parts of the client that need no network."""
