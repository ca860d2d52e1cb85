"""The plug-in API of replicated services, the replicated store beneath them, and the built-in key-value service."""

from bft.statemachine.api import ApplicationError, Context, ReadContext, StateMachine

__all__ = ["ApplicationError", "Context", "ReadContext", "StateMachine"]
