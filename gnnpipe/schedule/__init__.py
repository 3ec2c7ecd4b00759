"""Plans and schedules as data: no device, no rank, no PyTorch."""
