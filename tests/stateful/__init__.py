"""The real stores and streams under random histories, beside a small model of what they promise."""
