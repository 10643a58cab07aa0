"""One file a reference page: each reads the code and returns Markdown."""
