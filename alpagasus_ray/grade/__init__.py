"""Stage: every row is scored by the judge."""
