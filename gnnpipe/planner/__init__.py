"""Time, bytes and memory of every plan, before it runs."""
