"""Graphs from tables: CSV, TSV and Parquet files of edges, labels and features.

files --- find ---> Tables by role --- ids ---> numbers 0, 1, 2, ... --- edges, nodes, entries ---> RawGraph
"""

from gnnpipe.graph.sources.tables.read import read_tables as read_tables
