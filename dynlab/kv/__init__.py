"""What is in the workers' KV caches, and who holds how much of a prompt (Dynamo: `lib/kv-router`)."""
