"""The service of `--workload null`: it does nothing and answers nothing."""

from bft.statemachine import Context, StateMachine


class Null(StateMachine):
    """Executes any operation by doing nothing."""

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        return b""
