"""One kind of layer a file. A layer sees rows and aggregates, and never asks where they came from."""
