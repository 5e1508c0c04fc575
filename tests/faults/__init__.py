"""Real processes under faults: killed, stopped, cut off from their servers."""
