"""Steps: what a developer adds to the server, and the queue and the clock that run it."""
