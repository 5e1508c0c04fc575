"""The embedded servers, for real."""
