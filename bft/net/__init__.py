"""TLS links between replicas and from clients: who is at the other end is settled before a frame is handed on."""
