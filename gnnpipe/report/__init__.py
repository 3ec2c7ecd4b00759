"""Tables and pictures, made from the records of runs and from plans."""
