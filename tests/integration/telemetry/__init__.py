"""Workers on a real Redis and a real Postgres."""
