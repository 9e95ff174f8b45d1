"""Versions of what is written and read again.

Raise one when the code comes to write something else under the same name: entries of the cache that bear
another version are made anew, and readers of ``result.json`` can tell.
"""

RESULT = 7
"""Keys and units of ``result.json``, its ``schema_version``."""

CORPUS = 1
"""Recordings of the synthetic corpus."""

FEATURES = 4
"""Features of the same recordings and front end."""

RANGES = 3
"""Ranges of the same network, recordings and method."""

HESSIANS = 5
"""Hessians of the same network and pieces of recordings."""

ROUNDED_WEIGHTS = 5
"""Integers of the same weights, rounded in the same way."""

RECOVERY = 2
"""What training makes of the same integers on the same speech, by the same settings."""

GRAPH = 7
"""ONNX graph of the same network, before a mask is put on it."""

EMBEDDINGS = 4
"""Embeddings by an engine of the same ONNX file."""

BASELINE = 7
"""Size, scores and embeddings of the baseline."""

REPLICATES = 2
"""Error metrics of the same scores on the same draws of speakers."""
