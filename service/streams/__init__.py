"""Redis: job streams, event streams, nudges. It moves jobs; Postgres is the truth."""
