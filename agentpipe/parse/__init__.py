"""Adapters: one agent's own output in, events out."""
