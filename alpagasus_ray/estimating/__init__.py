"""What a recipe's judges would cost and how long they would take, before anybody is asked."""
