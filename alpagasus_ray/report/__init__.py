"""Stage: one page that shows what happened."""
