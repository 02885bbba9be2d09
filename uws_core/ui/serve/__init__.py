"""Queries to frames: from the cache, from stored Grams in milliseconds, at once when small, or as a job."""
