"""Workers without servers."""
