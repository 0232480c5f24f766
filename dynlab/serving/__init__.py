"""A graph as something that runs: HTTP in front, instances in threads, one handle for all (2025: `dynamo serve`)."""
