"""Graph folders: a graph as npy files that are mapped, beside a graph.yaml that says what they hold.

graph.yaml                       format, name, notes, statistics; type, shape and checksum of each file
rowptr.npy col.npy               edges in compressed rows: row i lists the nodes that i aggregates from
weight.npy or count.npy          weight of each entry; or the number of parallel edges that it stands for
edge_attr.npy edge_type.npy      features and types of the entries
edge_type_names.npy edge_type_names_start.npy
features.npy                     or feature_rowptr.npy, feature_col.npy, feature_value.npy where sparse
labels.npy                       class numbers, 0/1 columns, or values
train_mask.npy val_mask.npy test_mask.npy
ids.npy ids_start.npy            ids of the nodes in the source
class_names.npy class_names_start.npy
"""
