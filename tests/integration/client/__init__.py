"""The client against a real server that misbehaves."""
