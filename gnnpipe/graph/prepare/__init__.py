"""Preparing a graph: normalised, renumbered, cut, written as a file, and kept in the cache for later starts.

Graph --- fingerprint, Recipe ---> Cache: a file that is there already ---> PreparedGraph
                                   or normalise, cut and move the rows ---> PreparedGraph, kept
"""
