"""Keys, signatures, digests, Merkle trees, the cluster's CA and TLS contexts: bytes in, bytes out.

Knows nothing of the protocol and never imports `bft`, so that it can be reviewed by itself.
"""
