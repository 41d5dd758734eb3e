"""vLLM engines, and how weights reach them."""
