"""What the service can do per second, measured on real processes and servers."""
