"""The catalogue: each behaviour's name, where it sits, what it does, and what must hold all the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bft.testing import collusion
from bft.testing.behaviours import backup, batches, clients, links, primary, transfer, view_change
from bft.testing.behaviours.base import MS, Behaviour


class Role(StrEnum):
    """Where a behaviour does its worst, and so where it is measured."""

    PRIMARY = "primary"
    NEW_PRIMARY = "primary of the next view"
    BACKUP = "backup"
    SOURCE = "whom laggards ask"


class Guilt(StrEnum):
    """What evidence there must be against the liar; against others there is none in any case."""

    NONE = "nobody is accused"  # it signs no two conflicting statements
    POSSIBLE = "nobody else is accused"  # it does, but nobody need ever see both
    PROVEN = "it is convicted"


@dataclass(frozen=True, slots=True)
class Entry:
    """One behaviour, and what must hold with one replica that behaves so, besides safety."""

    name: str
    make: Callable[..., Behaviour]  # its keyword arguments are whole numbers with defaults
    role: Role
    does: str
    view_max: int  # the highest view that correct replicas are in at the end
    goodput_min: float  # of the clients, relative to a run without a liar
    guilt: Guilt = Guilt.NONE

    @property
    def defaults(self) -> dict[str, int]:
        """Its parameters."""
        return {name: p.default for name, p in inspect.signature(self.make).parameters.items()}

    @property
    def usage(self) -> str:
        """Name and parameters, as they may be written."""
        settings = ", ".join(f"{name}={value}" for name, value in self.defaults.items())
        return f"{self.name}({settings})" if settings else self.name

    @property
    def must(self) -> str:
        """What must hold, in words."""
        return f"view <= {self.view_max}, goodput >= {self.goodput_min:.0%}, {self.guilt}"


_PROVEN, _POSSIBLE = Guilt.PROVEN, Guilt.POSSIBLE
_P, _N, _B, _S = Role.PRIMARY, Role.NEW_PRIMARY, Role.BACKUP, Role.SOURCE

CATALOGUE: tuple[Entry, ...] = (
    # --- the primary's proposals
    Entry(
        "equivocate_split",
        lambda: primary.Equivocate(lambda target, context: int(target in context.second_half)),
        *(_P, "half of the backups get another batch under the same (view, seq)", 1, 0.9, _PROVEN),
    ),
    Entry(
        "equivocate_one",
        lambda: primary.Equivocate(lambda target, context: int(target == context.others[-1])),
        *(_P, "one backup gets another batch than the rest", 1, 0.9, _PROVEN),
    ),
    Entry(
        "equivocate_each",
        lambda: primary.Equivocate(lambda target, _: target),
        *(_P, "each backup gets a batch of its own", 1, 0.9, _PROVEN),
    ),
    Entry("body_swap", primary.BodySwap, _P, "one header; half of the backups get a body that is not its own", 1, 0.5),
    Entry(
        "slow_primary",
        lambda percent=60: primary.SlowPrimary(percent),
        *(_P, "proposes late, after percent of the request time-out", 1, 0.25),
    ),
    Entry("sequence_gap", primary.sequence_gap, _P, "skips sequence numbers: nothing can be executed", 1, 0.5),
    Entry(
        "jump_to_high",
        primary.jump_to_high,
        _P,
        "proposes at the high watermark, all below it is a gap",
        1,
        0.6,
        _PROVEN,
    ),
    Entry("beyond_watermarks", primary.beyond_watermarks, _P, "proposes beyond the high watermark", 1, 0.5),
    Entry("below_watermarks", primary.below_watermarks, _P, "proposes at the low watermark", 1, 0.5, _POSSIBLE),
    Entry(
        "censor",
        lambda client=0: primary.Censor(client),
        *(_P, "never proposes what one client (by order of appearance) asks for", 1, 0.5),
    ),
    Entry(
        "favour",
        lambda client=0, percent=60: primary.Favour(client, percent),
        *(_P, "serves one client at once, the others after percent of the request time-out", 1, 0.1),
    ),
    Entry("unsigned_requests", batches.unsigned_requests, _P, "batches of requests that no client signed", 1, 0.5),
    Entry("malformed_requests", batches.malformed_requests, _P, "batches of bytes that are no requests", 1, 0.5),
    Entry("oversized_batch", batches.oversized_batch, _P, "one request more than a batch may hold", 1, 0.5),
    Entry("empty_batch", batches.empty_batch, _P, "batches of nothing", 1, 0.5),
    Entry(
        "replayed_requests",
        lambda count=4: batches.Replayed(count),
        *(_P, "each batch begins with requests executed before", 0, 0.9),
    ),
    Entry("duplicate_requests", batches.duplicate_requests, _P, "each batch holds its requests twice", 0, 0.9),
    Entry("clock_ahead", batches.clock_ahead, _P, "proposes with a time s seconds ahead", 1, 0.5),
    Entry("clock_behind", batches.clock_behind, _P, "proposes with a time s seconds behind", 1, 0.5),
    # --- silence and noise
    Entry("silent", links.Silent, _P, "sends nothing at all", 1, 0.5),
    Entry(
        "silent_to_f", lambda: links.DropTo(lambda context: context.f), _P, "sends nothing to f of the others", 0, 0.7
    ),
    Entry(
        "drop_to",
        lambda targets=1: links.DropTo(lambda _: targets),
        *(_P, "sends nothing to so many of the others", 0, 0.7),
    ),
    Entry("delay", links.delay, _P, "sends everything ms milliseconds late", 1, 0.25),
    Entry("replay", links.Replay, _B, "sends old messages again, to anybody", 0, 0.9),
    Entry(
        "flood",
        lambda ms=50, times=4: links.Flood(ms * MS, times),
        *(_B, "each ms milliseconds, says its last 8 messages so many times", 0, 0.9),
    ),
    # Without one backup of four, every quorum waits for the slowest of the others: that alone costs a tenth.
    Entry("garbage_signatures", links.GarbageSignatures, _B, "none of its signatures is one", 0, 0.75),
    Entry("stale", links.Stale, _B, "claims for ever to stand where it stood first", 0, 0.9),
    Entry(
        "show_and_hide",
        lambda ms=1000: links.ShowAndHide(ms * MS),
        *(_B, "completes certificates at one laggard only, and is silent after ms milliseconds", 0, 0.85),
    ),
    # --- votes
    Entry(
        "wrong_digest",
        lambda: backup.WrongVotes(split=False),
        *(_B, "votes for digests that nobody proposed, or for earlier proposals", 0, 0.9),
    ),
    Entry(
        "equivocate_votes",
        lambda: backup.WrongVotes(split=True),
        *(_B, "votes otherwise towards half of the others", 0, 0.9, _POSSIBLE),
    ),
    Entry("early_commits", backup.EarlyCommits, _B, "sends COMMIT with its PREPARE: nothing is prepared", 0, 0.9),
    Entry(
        "lying_checkpoints",
        lambda: backup.LyingCheckpoints(split=False),
        *(_B, "CHECKPOINTs with a wrong root", 0, 0.9, _POSSIBLE),
    ),
    Entry(
        "equivocate_checkpoints",
        lambda: backup.LyingCheckpoints(split=True),
        *(_B, "CHECKPOINTs with a wrong root towards half of the others", 0, 0.9, _POSSIBLE),
    ),
    # --- view changes
    Entry(
        "view_change_spam",
        lambda ms=100, jump=1: view_change.ViewChangeSpam(ms * MS, jump),
        *(_B, "each ms milliseconds a VIEW-CHANGE, jump views higher than the last", 0, 0.9, _POSSIBLE),
    ),
    Entry(
        "view_max",
        lambda ms=100: view_change.ViewChangeSpam(ms * MS, 0, view_change.VIEW_MAX),
        *(_B, "a VIEW-CHANGE for the highest view that can be written", 0, 0.9, _PROVEN),
    ),
    Entry(
        "huge_certificates",
        lambda ms=200, votes=1000: view_change.HugeCertificates(ms * MS, votes),
        *(_B, "VIEW-CHANGEs whose certificate holds its own vote so many times", 0, 0.9, _POSSIBLE),
    ),
    Entry(
        "lying_view_change",
        view_change.LyingViewChange,
        *(_N, "its VIEW-CHANGEs prove what only it itself voted for", 2, 0.5, _POSSIBLE),
    ),
    Entry(
        "denying_new_view",
        lambda: view_change.AlterNewView(view_change.denying),
        *(_N, "NEW-VIEW with nulls over everything, its own VIEW-CHANGE denies what it prepared", 2, 0.5, _POSSIBLE),
    ),
    Entry(
        "nulling_new_view",
        lambda: view_change.AlterNewView(view_change.nulling),
        *(_N, "NEW-VIEW with null over what is prepared", 2, 0.5, _POSSIBLE),
    ),
    Entry(
        "omitting_new_view",
        lambda: view_change.AlterNewView(view_change.omitting),
        *(_N, "NEW-VIEW without a prepared request", 2, 0.5, _POSSIBLE),
    ),
    Entry(
        "forging_new_view",
        lambda: view_change.AlterNewView(view_change.forging),
        *(_N, "NEW-VIEW with a forged prepared certificate in it", 2, 0.5, _POSSIBLE),
    ),
    Entry(
        "repeating_new_view",
        lambda: view_change.AlterNewView(view_change.repeating),
        *(_N, "NEW-VIEW whose quorum is one VIEW-CHANGE, repeated", 2, 0.5, _POSSIBLE),
    ),
    Entry(
        "late_new_view_start",
        lambda: view_change.AlterNewView(view_change.starting_late),
        *(_N, "NEW-VIEW that begins above min-s", 2, 0.5, _POSSIBLE),
    ),
    Entry(
        "stale_new_view",
        lambda: view_change.AlterNewView(view_change.starting_early),
        *(_N, "NEW-VIEW that begins at an old checkpoint", 2, 0.5, _POSSIBLE),
    ),
    Entry(
        "split_new_view",
        view_change.SplitNewView,
        _N,
        "a valid NEW-VIEW for each half, not the same",
        2,
        0.5,
        _POSSIBLE,
    ),
    Entry("withhold_new_view", view_change.WithholdNewView, _N, "never sends its NEW-VIEW", 2, 0.5),
    # --- catch-up
    Entry(
        "forged_certificates",
        transfer.ForgedCertificates,
        _S,
        "certificates filled with its own vote",
        1,
        0.9,
        _POSSIBLE,
    ),
    Entry("wrong_transfer", transfer.WrongTransfer, _S, "answers laggards with what was not asked for", 1, 0.9),
    Entry("stalled_transfer", transfer.StalledTransfer, _S, "claims to be ahead, and never answers", 1, 0.9),
    Entry(
        "dripped_transfer",
        lambda percent=90: transfer.DrippedTransfer(percent),
        *(_S, "answers with one item at a time, after percent of the time-out", 1, 0.9),
    ),
    Entry(
        "overcounted_transfer",
        lambda times=200: transfer.OvercountedTransfer(times),
        *(_S, "answers with everything so many times over", 1, 0.9),
    ),
    Entry("height_back", transfer.HeightBack, _S, "answers with what it showed first, below the laggard", 1, 0.9),
    # --- what colluders do together; alone, a colluder conspires with itself
    Entry("fork_together", collusion.ForkTogether, _P, "two batches, and votes for one at each half", 1, 0.5, _PROVEN),
    Entry(
        "forget_together",
        collusion.ForgetTogether,
        *(_N, "denies in a later view, towards one half, what it committed with the other", 3, 0.5, _POSSIBLE),
    ),
    Entry(
        "certify_together",
        collusion.CertifyTogether,
        *(_S, "certificates of the colluders' votes alone, another one for each half", 1, 0.5, _POSSIBLE),
    ),
    Entry("launder", collusion.Launder, _P, "batches and relays requests that a colluding client did not sign", 1, 0.5),
    # --- clients
    Entry("lying_replies", clients.lying_replies, _B, "answers clients with made-up results", 0, 0.9),
    Entry("split_replies", clients.split_replies, _B, "answers about half of the clients with made-up results", 0, 0.9),
    Entry("no_replies", clients.NoReplies, _B, "never answers a client", 0, 0.9),
    Entry(
        "stale_reads", clients.StaleReads, _B, "answers queries from the state in which they were first asked", 0, 0.9
    ),
)

BY_NAME = {entry.name: entry for entry in CATALOGUE}
