"""From tables of results to verdicts: claims, queries, the paper's numbers, statistics, tables for readers."""
