"""The aligned model behind an OpenAI-compatible endpoint, on Ray Serve."""
