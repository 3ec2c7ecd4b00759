"""A trained model as one readable file of torch_geometric's layers, with its weights."""
