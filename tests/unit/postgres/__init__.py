"""What the Postgres room does without a server."""
