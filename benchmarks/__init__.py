"""Side-by-side speed and memory: one file a question, run by `make bench` or `python -m benchmarks`.

Chapters: timing (contenders take turns in one process), memory (one contender in a fresh process), results (tables, goals,
JSON, Markdown), peers (other toolkits, where installed), models (what is trained to measure a step); and the questions:
losses, heads, sparse, offline, step, trainers, scaling.
"""
