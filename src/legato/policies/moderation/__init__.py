"""What may be said: policies of requests and replies, and what they decide."""
