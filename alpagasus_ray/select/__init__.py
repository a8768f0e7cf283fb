"""Stage: the rows of an arm are chosen by their scores."""
