"""Launchers that evaluate the jobs of a multirun or a search on a cluster."""
