"""Pictures of traces, each with a sentence and a table that say the same."""
