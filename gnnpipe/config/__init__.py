"""What may be asked for, checked before anything is loaded. Imports no PyTorch."""
