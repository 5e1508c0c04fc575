"""The rules that keep the code easy to see and to change."""
