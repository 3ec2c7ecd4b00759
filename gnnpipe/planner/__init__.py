"""What a run would cost: time, bytes and memory of every plan, before it starts."""
