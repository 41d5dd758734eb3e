"""One round and its parts, pure: which prompts, which engine gets what, credit, update, sync."""
