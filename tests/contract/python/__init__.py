"""A program that uses a generated client, in an environment of its own."""
