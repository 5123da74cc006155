"""Meaningful faults put into the backend one at a time, and the proof that the tests notice each of them."""
