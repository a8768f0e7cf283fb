"""Stage: two arms' answers are judged in both orders."""
