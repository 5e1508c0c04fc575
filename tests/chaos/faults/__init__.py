"""What can be done to a cluster, one file for each of those it is done to."""
