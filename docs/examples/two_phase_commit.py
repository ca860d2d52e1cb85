"""Atomic commit across two clusters whose coordinator may die at any instant and blocks nobody.

    python docs/examples/two_phase_commit.py HOME AWAY

tells it step by step on two running clusters, both made with `--service two_phase_commit:Ledger`.

An amount moves from an account in one cluster to an account in another, or not at all.  Classic two-phase commit: the
coordinator asks both to prepare (reserve, and promise), decides, tells both.  When it dies in between, the promise
binds for ever, for only it knows whether it decided: `Blocking` shows that.

Here the decision is an operation of the *home* cluster, ordered and replicated there: the first `decide` for a
transaction stands, whoever asks and whatever he asks for.  When a coordinator dies, anybody asks for "abort", is told
what was decided, first or just now, and finishes (`resolve`).  That is the idea of Gray and Lamport's "Consensus on
Transaction Commit" (2006), with a whole PBFT cluster in place of the acceptors of one transaction.

And nobody is believed: a participant commits or aborts only on a *receipt*, f+1 signatures of the home cluster under
the decision.  A lying coordinator can make nobody do anything but what the home cluster decided.
What the two sides promise, and whose accounts these are, the example takes on the coordinator's word: a service in
earnest checks owners, as `bank.py` does, and lets the home cluster see the other side's promise, by its receipt.
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import bft
from bft.config import Address, ClusterConfig, ReplicaEntry, load_cluster
from bft.core.parameters import Parameters
from bft.errors import VerificationFailed
from bft.statemachine import ApplicationError, Context, StateMachine
from bft.statemachine.api import ReadWriteStore
from bft.statemachine.results import Ok

COMMIT, ABORT = b"commit", b"abort"
_ACCOUNT, _PROMISE, _DECISION, _DONE, _HOME = b"account/", b"promise/", b"decision/", b"done/", b"home"


class Ledger(StateMachine):
    """One participant: accounts, promises, and (in the home cluster) decisions.  A transaction is named by its client.

    `found HOME EPOCH KEY,KEY,...`  whose decisions bind here; once, before anything else
    `open ACCOUNT AMOUNT`           for the example: money out of nothing
    `balance ACCOUNT`
    `prepare TX ACCOUNT AMOUNT`     promise to add AMOUNT (negative: to take it, which is reserved now)
    `decide TX commit|abort`        in the home cluster: the decision, which is the first that anybody asked for
    `finish TX ` + a receipt        carry out what the home cluster decided
    """

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        store = ctx.store
        word, _, rest = operation.partition(b" ")
        match word, rest.split(b" ", 2):
            case b"found", [cluster, epoch, keys]:
                if store.get(_HOME) is not None:
                    raise ApplicationError("founded", "the home cluster is known already")
                store.put(_HOME, b" ".join((cluster, epoch, keys)))
            case b"open", [account, amount]:
                store.put(_ACCOUNT + account, b"%d" % _number(amount))
            case b"balance", [account]:
                return b"%d" % _balance(store, account)
            case b"prepare", [tx, account, amount]:
                _prepare(store, tx, account, _number(amount))
            case b"decide", [tx, wish] if wish in {COMMIT, ABORT}:
                decision = store.get(_DECISION + tx) or wish
                store.put(_DECISION + tx, decision)
                return decision
            case b"finish", [tx, *_]:
                return _finish(store, tx, rest[len(tx) + 1 :])
            case _:
                raise ApplicationError("bad_operation", "found, open, balance, prepare, decide or finish")
        return b""


def _prepare(store: ReadWriteStore, tx: bytes, account: bytes, amount: int) -> None:
    if store.get(_DONE + tx) is not None:
        raise ApplicationError("finished", "this transaction is over here")  # it was aborted before it came to us
    if store.get(_PROMISE + tx) is not None:
        return
    balance = _balance(store, account)
    if balance + min(amount, 0) < 0:
        raise ApplicationError("no_cover", "the account does not hold as much")
    store.put(_ACCOUNT + account, b"%d" % (balance + min(amount, 0)))
    store.put(_PROMISE + tx, b"%d %s" % (amount, account))


def _finish(store: ReadWriteStore, tx: bytes, receipt: bytes) -> bytes:
    decision = _proven_decision(store, tx, receipt)
    promise = store.get(_PROMISE + tx)
    if promise is not None:
        amount, account = promise.split(b" ", 1)
        owed = max(int(amount), 0) if decision == COMMIT else -min(int(amount), 0)
        store.put(_ACCOUNT + account, b"%d" % (_balance(store, account) + owed))
        store.delete(_PROMISE + tx)
    store.put(_DONE + tx, decision)
    return decision


def _proven_decision(store: ReadWriteStore, tx: bytes, receipt: bytes) -> bytes:
    """What the home cluster decided; a pure function of the state and the receipt, so every replica finds the same."""
    home = store.get(_HOME)
    if home is None:
        raise ApplicationError("not_founded", "whose decisions bind here is not known yet")
    try:
        proven = bft.Receipt.decode(receipt).verify(_trusted(home))
    except VerificationFailed as error:
        raise ApplicationError("no_proof", "this receipt proves no decision of the home cluster") from error
    about_this = proven.operation in {b"decide %s %s" % (tx, wish) for wish in (COMMIT, ABORT)}
    if not about_this or not isinstance(proven.result, Ok):
        raise ApplicationError("no_proof", "this receipt is about something else")
    return proven.result.value


def _trusted(home: bytes) -> ClusterConfig:
    """As much of the home cluster's configuration as a receipt is checked with: name, epoch and public keys."""
    name, epoch, keys = home.split(b" ")
    nowhere = Address("127.0.0.1", 1)
    entries = tuple(
        ReplicaEntry(replica, bytes.fromhex(key.decode()), nowhere, nowhere, nowhere)
        for replica, key in enumerate(keys.split(b","))
    )
    return ClusterConfig(name.decode(), int(epoch), "", Path(), entries, Parameters(n=len(entries)))


def _balance(store: ReadWriteStore, account: bytes) -> int:
    held = store.get(_ACCOUNT + account)
    if held is None:
        raise ApplicationError("no_account", "there is no such account")
    return int(held)


def _number(text: bytes) -> int:
    if not text.removeprefix(b"-").isdigit() or len(text) > 18:
        raise ApplicationError("bad_amount", "an amount is a whole number")
    return int(text)


# --- clients ----------------------------------------------------------------------------------------------------------


class Crashed(Exception):
    """The coordinator is gone."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount` from `giver` in the home cluster to `taker` in the away cluster."""

    tx: bytes  # never used before
    giver: bytes
    taker: bytes
    amount: int


async def found(client: bft.Client, home: ClusterConfig) -> None:
    """Tell a participant whose decisions bind it."""
    keys = b",".join(key.hex().encode() for key in home.replica_keys)
    await client.call(b"found %s %d %s" % (home.cluster.encode(), home.epoch, keys))


async def transfer(home: bft.Client, away: bft.Client, what: Transfer, *, crash_after: str = "") -> bytes:
    """Coordinate; the decision.  `crash_after` "prepare" or "decide": die there."""
    wish = COMMIT
    try:
        await home.call(b"prepare %s %s %d" % (what.tx, what.giver, -what.amount))
        await away.call(b"prepare %s %s %d" % (what.tx, what.taker, what.amount))
    except bft.ApplicationError:
        wish = ABORT
    if crash_after == "prepare":
        raise Crashed
    return await _decide_and_finish(home, away, what.tx, wish, crash=crash_after == "decide")


async def resolve(home: bft.Client, away: bft.Client, tx: bytes) -> bytes:
    """Finish a transaction whose coordinator is gone, or only slow; anybody may, any number of times."""
    return await _decide_and_finish(home, away, tx, ABORT, crash=False)


async def _decide_and_finish(home: bft.Client, away: bft.Client, tx: bytes, wish: bytes, *, crash: bool) -> bytes:
    decided = await home.call(b"decide %s %s" % (tx, wish))
    if crash:
        raise Crashed
    receipt = decided.receipt.encode()
    for participant in (home, away):
        await participant.call(b"finish %s %s" % (tx, receipt))
    return decided.value


@dataclass(slots=True)
class Blocking:
    """The classic coordinator, for comparison: it alone knows the decision (on its own disk would be no better)."""

    decisions: dict[bytes, bytes] = field(default_factory=dict)
    alive: bool = True

    def decide(self, tx: bytes, wish: bytes) -> bytes:
        """The first wish stands.  Raises Crashed."""
        if not self.alive:
            raise Crashed
        return self.decisions.setdefault(tx, wish)


# --- the story --------------------------------------------------------------------------------------------------------


class Story:
    """Anna's account is in the home cluster, Bert's in the other; each run has accounts of its own."""

    def __init__(self, home: bft.Client, away: bft.Client) -> None:
        self._home = home
        self._away = away
        self._run = b"%d" % time.time_ns()
        self._number = 0

    def payment(self) -> Transfer:
        """30 from Anna to Bert, once more."""
        self._number += 1
        return Transfer(b"%s-%d" % (self._run, self._number), b"anna-" + self._run, b"bert-" + self._run, 30)

    async def open(self, home: ClusterConfig) -> None:
        for client, account in ((self._home, self.payment().giver), (self._away, self.payment().taker)):
            try:
                await found(client, home)
            except bft.ApplicationError as error:
                if error.code != "founded":  # by an earlier run
                    raise
            await client.call(b"open %s 100" % account)
        await self.tell("Anna has an account in the home cluster, Bert one in the away cluster")

    async def tell(self, what: str) -> None:
        """Say what happened, and what the accounts hold now."""
        anna, bert = b"balance anna-" + self._run, b"balance bert-" + self._run
        held = [int((await client.call(ask)).value) for client, ask in ((self._home, anna), (self._away, bert))]
        print(f"  {what:<88} Anna {held[0]:>3}, Bert {held[1]:>3}")

    async def whole(self) -> None:
        print("\nA coordinator that lives")
        decision = await transfer(self._home, self._away, self.payment())
        await self.tell(f"prepare, prepare, decide, finish, finish: {decision.decode()}")

    async def dies(self, after: str, then: str) -> None:
        """The coordinator dies; somebody else finishes."""
        print(f"\nA coordinator that dies after its {after}")
        payment = self.payment()
        try:
            await transfer(self._home, self._away, payment, crash_after=after)
        except Crashed:
            await self.tell("it is gone; what it had Anna's cluster promise is reserved")
        decision = await resolve(self._home, self._away, payment.tx)
        await self.tell(f'anybody asks the home cluster for "abort" and is told: {decision.decode()}, {then}')

    async def blocks(self) -> None:
        """The classic protocol, for comparison."""
        print("\nThe classic protocol, whose coordinator decides by itself and dies before it does")
        payment, coordinator = self.payment(), Blocking()
        await self._home.call(b"prepare %s %s %d" % (payment.tx, payment.giver, -payment.amount))
        await self._away.call(b"prepare %s %s %d" % (payment.tx, payment.taker, payment.amount))
        coordinator.alive = False
        try:
            coordinator.decide(payment.tx, ABORT)
        except Crashed:
            await self.tell("nobody can say what was decided: what is reserved stays reserved, for ever")


async def main(home: str, away: str, *, identity: str = "default") -> None:
    """Tell the story on these two clusters."""
    async with bft.connect(home, identity=identity) as one, bft.connect(away, identity=identity) as other:
        story = Story(one, other)
        await story.open(load_cluster(Path(home)))
        await story.whole()
        await story.dies("prepare", "for nothing was decided")
        await story.dies("decide", "for that was decided")
        await story.blocks()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python docs/examples/two_phase_commit.py HOME AWAY, two directories of clusters")
    asyncio.run(main(*sys.argv[1:]))
