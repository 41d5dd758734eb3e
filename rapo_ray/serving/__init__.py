"""The OpenAI-compatible endpoint for aligned models, on Ray Serve."""
