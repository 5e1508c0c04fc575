"""The Postgres room, on a real server."""
