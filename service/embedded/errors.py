"""What can go wrong with a server of our own."""


class EmbeddedServerError(Exception):
    """An embedded server cannot be found, started or reached; the message is meant for the user."""
