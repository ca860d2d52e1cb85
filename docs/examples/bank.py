"""A bank: accounts, and transfers that conserve the total, whoever lies.

Operations are lines of text, so that `bft call` can send them: `open NAME`, `deposit NAME AMOUNT`,
`transfer FROM TO AMOUNT`, `balance NAME`, `total`.  Only the central bank, the client of that name, creates money; an
account belongs to the client that opened it.
"""

from bft.statemachine import ApplicationError, Context, StateMachine
from bft.statemachine.api import ReadWriteStore

CENTRAL_BANK = "central-bank"  # as the CA certified it
_OWNER, _BALANCE = b"owner/", b"balance/"


class Bank(StateMachine):
    """A refused operation raises: its writes are rolled back, on every replica alike."""

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        match operation.split():
            case [b"open", name]:
                if ctx.store.get(_OWNER + name) is not None:
                    raise ApplicationError("exists", "somebody has this account already")
                ctx.store.put(_OWNER + name, ctx.client)
                return b"%d" % _add(ctx.store, name, 0)
            case [b"deposit", name, amount]:
                if ctx.client_name != CENTRAL_BANK:
                    raise ApplicationError("not_yours", "only the central bank creates money")
                return b"%d" % _add(ctx.store, name, _amount(amount))
            case [b"transfer", giver, taker, amount]:
                if ctx.store.get(_OWNER + giver) != ctx.client:
                    raise ApplicationError("not_yours", "this account belongs to somebody else")
                _add(ctx.store, taker, _amount(amount))
                return b"%d" % _add(ctx.store, giver, -_amount(amount))
            case [b"balance", name]:
                return b"%d" % _add(ctx.store, name, 0)
            case [b"total"]:
                return b"%d" % sum(int(balance) for _, balance in ctx.store.range(_BALANCE, _BALANCE[:-1] + b"0"))
            case _:
                raise ApplicationError("bad_operation", "open, deposit, transfer, balance or total")


def _add(store: ReadWriteStore, name: bytes, amount: int) -> int:
    if store.get(_OWNER + name) is None:
        raise ApplicationError("no_account", "there is no such account")
    balance = int(store.get(_BALANCE + name) or b"0") + amount
    if balance < 0:
        raise ApplicationError("no_cover", "the account does not hold as much")
    store.put(_BALANCE + name, b"%d" % balance)
    return balance


def _amount(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18 or not int(text):
        raise ApplicationError("bad_amount", "an amount is a positive whole number")
    return int(text)
