"""Stage: the arms answer the test sets."""
