"""Recipes tried for what the paper leaves open."""
