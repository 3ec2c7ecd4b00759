"""Plans and schedules as data. No device, no rank, no PyTorch."""
