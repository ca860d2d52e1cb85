"""Asks the replicas how they are, over their administrators' ports, and judges what they say as a whole."""

import http.client
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from bft.cli.home import Home
from bft.config import Address
from bft.core.quorum import Quorums

TIMEOUT_S: Final = 2.0
_ANSWER_BYTES_MAX: Final = 8 << 20
_MANY_REJECTIONS: Final = 100  # a second; below that they are stragglers of every view change


@dataclass(frozen=True, slots=True)
class Observation:
    """What one replica answered, or why it did not."""

    id: int
    address: Address  # advertised, for replicas
    admin: Address  # where it was asked
    status: dict[str, Any] | None
    trouble: str  # empty if there is a status

    @property
    def reachable(self) -> bool:
        return self.status is not None

    def get(self, key: str) -> Any:
        """A part of the status; None if there is none."""
        return None if self.status is None else self.status.get(key)

    def row(self) -> dict[str, Any]:
        """The replica as `bft cluster status --json` shows it."""
        stable = self.get("stable_checkpoint") or {}
        return {
            "id": self.id,
            "address": str(self.address),
            "pid": self.get("pid"),
            "reachable": self.reachable,
            "view": self.get("view"),
            "primary": self.get("primary"),
            "active": self.get("active"),
            "last_executed": self.get("last_executed"),
            "stable_checkpoint": stable.get("seq"),
            "stable_root": stable.get("root"),
            "state_root": self.get("state_root"),
            "silence": self.get("silence"),
            "executed_operations": self.get("executed_operations"),
            "view_changes": self.get("view_changes"),
            "rejections": self.get("rejections"),
            "invalid_frames": self.get("invalid_frames"),
            "refused_connections": self.get("refused_connections"),
            "closed_links": self.get("closed_links"),
            "evidence": [proof["accused"] for proof in self.get("evidence") or []],
            "trouble": self.trouble,
        }


def observe(home: Home, replicas: Sequence[int] | None = None) -> list[Observation]:
    """Ask these replicas, or all, at the same time."""
    wanted = range(len(home.config.replicas)) if replicas is None else replicas
    with ThreadPoolExecutor(max_workers=min(32, len(wanted))) as pool:
        return list(pool.map(lambda replica: _observe_one(home, replica), wanted))


def fetch_json(address: Address, path: str, *, timeout_s: float = TIMEOUT_S) -> Any:
    """The JSON document at an administrator's port.  Raises OSError, HTTPException or ValueError."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(_ANSWER_BYTES_MAX)
        if response.status != http.client.OK:
            raise ValueError(f"HTTP status {response.status}")
        return json.loads(body)
    finally:
        connection.close()


def _observe_one(home: Home, replica: int) -> Observation:
    entry = home.config.replicas[replica]
    admin = home.admin_address(replica)
    try:
        status = fetch_json(admin, "/status")
    except OSError as error:
        return Observation(replica, entry.peer, admin, None, (error.strerror or str(error) or "no answer").lower())
    except (http.client.HTTPException, ValueError) as error:
        return Observation(replica, entry.peer, admin, None, f"something else answers there ({error})")
    if not isinstance(status, dict) or status.get("id") != replica or status.get("cluster") != home.config.cluster:
        return Observation(replica, entry.peer, admin, None, "another replica or cluster answers there")
    return Observation(replica, entry.peer, admin, status, "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the cluster can execute requests, and everything that is not as it should be."""

    progress: bool
    summary: str  # one line
    findings: tuple[str, ...]


def judge(observations: Sequence[Observation], quorums: Quorums) -> Verdict:
    """What the replicas' statuses say together; a pure function."""
    reachable = [o for o in observations if o.reachable]
    working = _working_view(reachable)
    in_view = [o for o in reachable if o.get("active") and o.get("view") == working and not o.get("silence")]
    findings = [
        *_unreachable(observations),
        *_views(reachable),
        *_links(reachable),
        *_silent(reachable),
        *_behind(reachable),
        *_guilty(reachable),
    ]
    if len(reachable) < quorums.quorum:
        summary = f"no progress: {len(reachable)} of {quorums.n} replicas answer, {quorums.quorum} are needed"
    elif len(in_view) < quorums.quorum:
        summary = f"no progress now: {len(in_view)} replicas work in one view, {quorums.quorum} are needed"
    elif in_view[0].get("primary") not in {o.id for o in in_view}:
        summary = f"no progress until the next view: primary {in_view[0].get('primary')} does not answer"
    else:
        primary = in_view[0].get("primary")
        summary = f"makes progress: {len(in_view)} of {quorums.n} replicas work in view {working}, primary {primary}"
    return Verdict(summary.startswith("makes"), summary, tuple(findings))


def _working_view(reachable: Sequence[Observation]) -> int | None:
    """The view in which most replicas work; of several, the highest."""
    views = Counter(o.get("view") for o in reachable if o.get("active") and not o.get("silence"))
    return max(views, key=lambda view: (views[view], view), default=None)


def _unreachable(observations: Sequence[Observation]) -> list[str]:
    return [f"replica {o.id} does not answer at {o.admin}: {o.trouble}" for o in observations if not o.reachable]


def _views(reachable: Sequence[Observation]) -> list[str]:
    changing = [o for o in reachable if not o.get("active")]
    found = [f"replica {o.id} is in a view change, to view {o.get('view')}" for o in changing]
    if len(changing) == 1 and len(reachable) > 1:
        found[0] += "; it is alone: the others follow after 30 s, later (up to an hour) if it was alone before"
    views = {o.id: o.get("view") for o in reachable if o.get("active")}
    if len(set(views.values())) > 1:
        found.append("views differ: " + ", ".join(f"replica {i} in view {view}" for i, view in views.items()))
    return found


def _links(reachable: Sequence[Observation]) -> list[str]:
    """Missing links, but for those to replicas of which we know already that they are down."""
    up = {o.id for o in reachable}
    return [
        f"replica {o.id} has no link to replica {peer['id']}" + (f": {peer['trouble']}" if peer["trouble"] else "")
        for o in reachable
        for peer in o.get("peers") or []
        if not peer["connected"] and peer["id"] in up
    ]


def _behind(reachable: Sequence[Observation]) -> list[str]:
    newest = max((o.get("stable_checkpoint")["seq"] for o in reachable), default=0)
    found = []
    for o in reachable:
        if o.get("transferring"):
            found.append(f"replica {o.id} fetches the state from its peers{_so_far(o.get('transfer'))}")
        elif o.get("last_executed") < newest:
            found.append(f"replica {o.id} is behind: executed {o.get('last_executed')}, stable is {newest}")
    return found


def _so_far(transfer: dict[str, Any] | None) -> str:
    """How far a state transfer is; nothing before the first answer."""
    if transfer is None:
        return ""
    return (
        f": {transfer['nodes_received']} nodes, {transfer['bytes_received'] / 1e6:.1f} MB so far, "
        f"{transfer['bytes_per_s'] / 1e6:.1f} MB/s"
    )


def _silent(reachable: Sequence[Observation]) -> list[str]:
    return [f"replica {o.id} does not vote: {o.get('silence')}" for o in reachable if o.get("silence")]


def _guilty(reachable: Sequence[Observation]) -> list[str]:
    holders: dict[int, list[int]] = {}
    for o in reachable:
        for proof in o.get("evidence") or []:
            holders.setdefault(proof["accused"], []).append(o.id)
    return [
        f"replica {accused} is proven faulty (evidence at {', '.join(map(str, held))}): see `bft evidence list`"
        for accused, held in sorted(holders.items())
    ]


def stuck(earlier: Sequence[Observation], later: Sequence[Observation]) -> list[str]:
    """What did not move between two observations although something waits."""
    found = []
    for before, after in zip(earlier, later, strict=True):
        if not (before.reachable and after.reachable):
            continue
        queues = after.get("queues") or {}
        pending = queues.get("pending", 0)
        if pending and before.get("last_executed") == after.get("last_executed"):
            found.append(f"replica {after.id} has {pending} requests waiting and executed none within a second")
        for reason, count in sorted((after.get("rejections") or {}).items()):
            new = count - (before.get("rejections") or {}).get(reason, 0)
            if new > _MANY_REJECTIONS:
                found.append(f"replica {after.id} rejected {new} messages within a second: {reason}")
    return found
