"""Stories that every writer must do well on, and the checks that say so."""
