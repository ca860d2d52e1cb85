"""A replica's condition, as the administrator's port shows it."""

import os
from typing import Any

from bft import __version__
from bft.codec import encode_body
from bft.node.node import Node


def status_of(node: Node) -> dict[str, Any]:
    """Everything as JSON: numbers, texts, lists and objects."""
    core, counters, config = node.core, node.counters, node.config
    log = node.data.log
    return {
        "id": core.id,
        "cluster": config.cluster.cluster,
        "epoch": config.cluster.epoch,
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": round(node.uptime_s, 3),
        "durability": str(config.durability),
        "view": core.view,
        "primary": core.primary,
        "active": core.active,
        "last_executed": core.last_executed,
        "stable_checkpoint": {"seq": core.stable.seq, "root": core.stable.root.hex()},
        "saved_state": node.saved_seq,
        "scrubs": node.scrubs,
        "state_root": core.state_root.hex(),
        "transferring": core.transferring,
        "transfer": node.transfer,
        "repairing": core.repairing,
        "divergences": counters.divergences,
        "silence": core.silence,
        "executed_operations": counters.executed_operations,
        "executed_requests": counters.executed_requests,
        "executed_batches": counters.executed_batches,
        "queries": counters.queries,
        "view_changes": counters.view_changes,
        "rejections": dict(counters.rejections),
        "invalid_frames": dict(node.gate.invalid),
        "redundant_votes": node.gate.redundant,
        "received_frames": dict(node.gate.received),
        "refused_connections": {
            "peer": dict(node.peers.listener.refused),
            "client": dict(node.clients.listener.refused),
        },
        "closed_links": {"peer": node.peers.closed_for_cause, "client": node.clients.closed_for_cause},
        "evidence": [
            {"accused": evidence.accused, "frame": encode_body(evidence)[1].hex()} for evidence in core.evidence
        ],
        "convictions": {str(accused): seq for accused, seq in core.convictions.items()},
        "peers": [
            {
                "id": peer,
                "connected": node.peers.is_connected(peer),
                "trouble": node.peers.trouble(peer),
                "dropped_frames": node.peers.dropped(peer),
            }
            for peer in node.peers.dialers
        ],
        "clients": len(node.clients),
        "queues": node.queues | core.sizes,
        "traffic": {"peer": node.peers.traffic.document(), "client": node.clients.traffic.document()},
        "signatures": node.signatures,
        "rounds": counters.rounds,
        "frames": counters.frames,
        "log": {"syncs": log.syncs, "sync_s": round(log.sync_ns / 1e9, 6), "bytes": log.bytes_written},
    }
