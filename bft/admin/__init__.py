"""The administrator's port: health, status and metrics over HTTP."""
