"""Ways to weaken the protocol; each must be caught by a test or by the simulator."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One edit of one file: `old`, which stands there exactly once, becomes `new`."""

    name: str
    path: str
    old: str
    new: str


_ORDERING = "bft/core/ordering.py"
_EVIDENCE = "bft/core/evidence.py"
_REJOINING = "bft/core/rejoining.py"
_NEW_VIEW = "bft/core/new_view.py"
_QUORUM = "bft/core/quorum.py"
_REPLICA = "bft/core/replica.py"
_CHECKPOINTS = "bft/core/checkpoints.py"
_SESSIONS = "bft/core/sessions.py"
_EXECUTION = "bft/core/execution.py"
_VIEW_CHANGE = "bft/core/view_change.py"
_TRANSFER = "bft/core/state_transfer.py"
_COURTESY = "bft/core/courtesy.py"
_MONITOR = "bft/core/primary_monitor.py"

MUTANTS = (
    Mutant("a quorum is f + 1", _QUORUM, "quorum=(n + f + 2) // 2", "quorum=f + 1"),
    Mutant("a quorum is one less", _QUORUM, "quorum=(n + f + 2) // 2", "quorum=(n + f) // 2"),
    Mutant("one signer fills a certificate", _QUORUM, "valid = len(set(seen)) == len(seen) and", "valid ="),
    Mutant(
        "prepared needs no other backup",
        _ORDERING,
        "1 + len(slot.prepares) >= quorum and not self._context.voice.mute:\n"
        "            prepares = slot.matching_prepares(digest)\n"
        "            if 1 + len(prepares) >= quorum:",
        "1 + len(slot.prepares) >= 2 and not self._context.voice.mute:\n"
        "            prepares = slot.matching_prepares(digest)\n"
        "            if 1 + len(prepares) >= 2:",
    ),
    Mutant(
        "COMMITs for other digests count",
        _ORDERING,
        "commits = slot.matching_commits(digest)",
        "commits = list(slot.commits.values())",
    ),
    Mutant(
        "committed at f + 1",
        _ORDERING,
        "if slot.certified is None and len(slot.commits) >= quorum:\n"
        "            commits = slot.matching_commits(digest)\n"
        "            if len(commits) >= quorum:",
        "if slot.certified is None and len(slot.commits) >= 2:\n"
        "            commits = slot.matching_commits(digest)\n"
        "            if len(commits) >= 2:",
    ),
    Mutant(
        "PREPARE without looking at the batch's digest",
        _ORDERING,
        "if batch.digest != proposal.header.message.digest:",
        "if not batch.requests:",
    ),
    Mutant(
        "a second header is taken as well",
        _ORDERING,
        "        if slot.seen_header is not None and (proof := evidence_of(slot.seen_header, header)):\n"
        "            return proof\n"
        "        if slot.header is not None and slot.batch is not None:\n"
        "            return Rejection.DUPLICATE\n",
        "",
    ),
    Mutant(
        "conflicting headers in PREPAREs go unnoticed",
        _ORDERING,
        "        if slot.seen_header is not None and (proof := evidence_of(slot.seen_header, prepare.header)):\n"
        "            return proof  # two headers by one primary: the vote itself may be honest\n",
        "",
    ),
    Mutant(
        "equivocation goes unnoticed",
        "bft/core/evidence.py",
        "return _position(first) == _position(second) and _claim(first) != _claim(second)",
        "return False",
    ),
    Mutant(
        "repetition is evidence",
        "bft/core/evidence.py",
        "return _position(first) == _position(second) and _claim(first) != _claim(second)",
        "return _position(first) == _position(second)",
    ),
    Mutant(
        "no high watermark",
        _REPLICA,
        "if view > current.view or not current.active or seq > log.high:",
        "if view > current.view or not current.active:",
    ),
    Mutant(
        "any link speaks for anyone",
        _REPLICA,
        "if vote.message.replica != sender:\n"
        "            out.reject(sender, vote, Rejection.WRONG_SIGNER)\n"
        "            return False",
        "if False:\n            return False",
    ),
    Mutant(
        "in a view change the old view goes on",
        _REPLICA,
        "if view > current.view or not current.active or seq",
        "if view > current.view or seq",
    ),
    Mutant(
        "a missing body is taken for null",
        _ORDERING,
        "            if body is not None:\n                self._accept_body(slot, body, out)",
        "            self._accept_body(slot, body or Batch(0, ()), out)",
    ),
    Mutant(
        "the new view ignores prepared certificates",
        _NEW_VIEW,
        "        for certificate in view_change.prepared:",
        "        for certificate in ():",
    ),
    Mutant("the lowest prepared view wins", _NEW_VIEW, "certificate.view > best.view", "certificate.view < best.view"),
    Mutant("the lowest checkpoint starts a view", _NEW_VIEW, "return max((v.stable", "return min((v.stable"),
    Mutant(
        "a NEW-VIEW is believed",
        _NEW_VIEW,
        "and [p.message for p in new_view.pre_prepares] == headers(new_view.view, view_changes, quorums)",
        "",
    ),
    Mutant(
        "prepared claims are believed",
        _NEW_VIEW,
        "c.view < view_change.view and quorums.proves_prepared(c)",
        "c.view < view_change.view",
    ),
    Mutant(
        "one VIEW-CHANGE moves everybody",
        _VIEW_CHANGE,
        "if len(higher) >= self._context.quorums.weak else None",
        "if higher else None",
    ),
    Mutant("joins the largest view", _VIEW_CHANGE, "return min(higher)", "return max(higher)"),
    Mutant("the wait for a new view never grows", _VIEW_CHANGE, "return base_ns << min(", "return base_ns + 0 * min("),
    Mutant(
        "VIEW-CHANGE is sent once",
        "bft/core/retransmission.py",
        "                    out.send(peer, own)\n        self",
        "                    pass\n        self",
    ),
    Mutant(
        "VIEW-CHANGE is never repeated",
        _VIEW_CHANGE,
        "        self.own = self._context.sign(ViewChange(view, stable, prepared, self._context.id))\n"
        "        self._votes[self._context.id] = self.own\n",
        "        own = self._context.sign(ViewChange(view, stable, prepared, self._context.id))\n"
        "        self._votes[self._context.id] = own\n"
        "        out.persist(effects.LeftView(own))\n"
        "        out.broadcast(own)\n"
        "        out.note(effects.ViewChangeStarted(view, cause))\n"
        "        return\n",
    ),
    Mutant(
        "request timers run in a view change",
        _REPLICA,
        "if not self._current.active or not self._pending or self._ordering.is_primary or",
        "if not self._pending or self._ordering.is_primary or",
    ),
    Mutant(
        "only what was proposed is timed",
        _REPLICA,
        "if not self._current.active or not self._pending or self._ordering.is_primary or",
        "if not self._current.active or not self._pending or self._ordering.is_primary"
        " or self._pending.unproposed_count == len(self._pending) or",
    ),
    Mutant(
        "who is idle says nothing",
        _REPLICA,
        "        out.broadcast(self._retransmission.status())\n",
        "        if self._pending:\n            out.broadcast(self._retransmission.status())\n",
    ),
    Mutant(
        "only batches bring a laggard up",
        _REPLICA,
        "if not asked and self.stable.seq > self.last_executed:",
        "if False:",
    ),
    Mutant("what is early is dropped", _REPLICA, "            self._held.hold(sender, message)\n", ""),
    Mutant(
        "the largest client keeps its places",
        "bft/core/pending.py",
        "if newest is None or self._of_origin[largest][short] <= than[short]:",
        "if True:",
    ),
    Mutant("requests are proposed as they came", "bft/core/pending.py", "            self._turns.pass_on()\n", ""),
    Mutant(
        "a full table forgets the least recently used",
        _SESSIONS,
        "self._evict(self._least_deserving())",
        "self._evict(next(iter(self._by_id)))",
    ),
    Mutant("NEW-VIEW is sent once", "bft/core/retransmission.py", "out.send(sender, known)", "pass"),
    Mutant("the VIEW-CHANGE is not persisted", _VIEW_CHANGE, "        out.persist(effects.LeftView(self.own))\n", ""),
    Mutant(
        "the proposal is not persisted",
        _ORDERING,
        "        out.persist(effects.Accepted(Proposal(header, batch), prepare))\n",
        "",
    ),
    Mutant(
        "the prepared certificate is not persisted",
        _ORDERING,
        "                out.persist(effects.Prepared(slot.prepared, commit))\n",
        "",
    ),
    Mutant(
        "stable at f + 1 checkpoints",
        _CHECKPOINTS,
        "            if len(votes_for_root) >= quorum:",
        "            if len(votes_for_root) >= 2:",
    ),
    Mutant(
        "checkpoints of different roots are one",
        _CHECKPOINTS,
        "by_root.setdefault(vote.message.root, [])",
        'by_root.setdefault(b"", [])',
    ),
    Mutant(
        "truncation without a snapshot",
        _CHECKPOINTS,
        "covered = max(self._saved & self._certified, default=0)",
        "covered = max(self._certified, default=0)",
    ),
    Mutant(
        "a request executes as often as it is ordered",
        _SESSIONS,
        "if request.number < 1 or session.executed(request.number):",
        "if request.number < 1:",
    ),
    Mutant(
        "a later number censors earlier ones",
        _SESSIONS,
        "self.window |= 1 << (number - self.contiguous - 1)",
        "self.contiguous = max(self.contiguous, number)",
    ),
    Mutant(
        "sessions have no window",
        _SESSIONS,
        "if request.number > session.prefix_given(request) + self._parameters.session_window:",
        "if False:",
    ),
    Mutant("sessions are not part of the state", _EXECUTION, "        self.sessions.flush(self._application)\n", ""),
    Mutant(
        "the agreed clock may run backwards",
        _EXECUTION,
        "self.time_ns = max(self.time_ns + 1, batch.time_ns)",
        "self.time_ns = batch.time_ns",
    ),
    Mutant(
        "any clock is good enough",
        _ORDERING,
        "if abs(batch.time_ns - wall_ns) > self._context.parameters.clock_bound_ns:",
        "if False:",
    ),
    Mutant(
        "the timer stops at the pre-prepare",
        _REPLICA,
        "            self._pending.add_proposed(owed, now_ns=now.monotonic_ns)\n",
        "            for request in proposal.batch.requests:\n"
        "                self._pending.remove(request.message.id, now_ns=now.monotonic_ns)\n",
    ),
    Mutant(
        "uncertified batches are executed",
        _TRANSFER,
        "if not certified.commits or not self._context.quorums.proves_committed(certified):",
        "if not certified.commits:",
    ),
    Mutant(
        "state nodes are believed",
        "bft/statemachine/replicated.py",
        "accepted = self._sync is not None and self._sync[1].accept(path, encoding)",
        "accepted = self._sync is not None and (self._sync[1].accept(path, encoding) or True)",
    ),
    Mutant(
        "what no handler acts on convicts nobody",
        _REPLICA,
        "for proof in self._witness.observe(message, sender):",
        "for proof in ():",
    ),
    Mutant(
        "a COMMIT may be hidden by a VIEW-CHANGE",
        _EVIDENCE,
        "        return _hides(second, first)\n",
        "        return False\n",
    ),
    Mutant(
        "a VIEW-CHANGE that shows the COMMIT's batch is evidence",
        _EVIDENCE,
        "    if shown is None or shown.view < committed.view:",
        "    if shown is None or shown.view <= committed.view:",
    ),
    Mutant(
        "a VIEW-CHANGE past the COMMIT's checkpoint is evidence",
        _EVIDENCE,
        " or left.stable.seq >= committed.seq:",
        ":",
    ),
    Mutant(
        "nobody is sent the proofs that it lacks",
        "bft/core/retransmission.py",
        "if (proof := self._guilty.first_besides(status.accused)) is not None:",
        "if (proof := self._guilty.first_besides(status.accused)) is not None and False:",
    ),
    Mutant(
        "the digest of a batch does not bind its evidence",
        "bft/core/messages.py",
        '            parts.append(b"evidence" + b"".join(e.digest for e in self.evidence))\n',
        "            pass\n",
    ),
    Mutant(
        "evidence on record is proposed again",
        _ORDERING,
        "return tuple(proof for proof in wanted if proof.accused not in proposed)[:EVIDENCE_IN_BATCH_MAX]",
        "return tuple(wanted)[:EVIDENCE_IN_BATCH_MAX]",
    ),
    Mutant(
        "evidence is put on record without knowing all batches before",
        _ORDERING,
        "        if len(batches) < len(slots):\n            return ()\n",
        "",
    ),
    Mutant(
        "what proves nothing is put on record",
        _ORDERING,
        "proves(evidence, quorums, parameters) and not convictions.precede(seq, evidence.accused)",
        "not convictions.precede(seq, evidence.accused)",
    ),
    Mutant(
        "the convicted are not learnt from a transferred state",
        _EXECUTION,
        "        self.convictions.load(self._application)\n",
        "",
    ),
    Mutant(
        "a forged VIEW-CHANGE convicts",
        _REPLICA,
        "if self._guilty.holds(evidence.accused) or not proves(evidence, self.quorums, self._context.parameters):",
        "if self._guilty.holds(evidence.accused):",
    ),
    Mutant(
        "a batch may hold nothing, or too much",
        _ORDERING,
        "        if not (batch.requests or batch.evidence or empty) or full:\n            return Rejection.BAD_BATCH\n",
        "",
    ),
    Mutant(
        "a restarted replica speaks without asking",
        _REJOINING,
        "        self._context.voice.mute = True\n        if amnesiac and",
        "        if amnesiac and",
    ),
    Mutant(
        "one answer lets a restarted replica speak",
        _REJOINING,
        "if len(self._answers) < self._context.quorums.quorum - 1:",
        "if not self._answers:",
    ),
    Mutant(
        "returned votes are not looked for in the log",
        _REJOINING,
        "if not self.amnesiac and any(self._lacks(statement.message) for statement in returned):",
        "if False:",
    ),
    Mutant(
        "H without the windows",
        _REJOINING,
        "until = highest + 2 * self._context.parameters.window",
        "until = highest + self._context.parameters.checkpoint_interval",
    ),
    Mutant(
        "the bound on views is ignored",
        _REJOINING,
        "return self._past() and active and view > self.above",
        "return self._past()",
    ),
    Mutant(
        "the bound on views is the highest claim",
        _REJOINING,
        "claim = sorted(answer.view for answer in self._answers.values())[quorums.quorum - 1]",
        "claim = max(answer.view for answer in self._answers.values())",
    ),
    Mutant(
        "the bound on views is the lowest claim",
        _REJOINING,
        "claim = sorted(answer.view for answer in self._answers.values())[quorums.quorum - 1]",
        "claim = min(answer.view for answer in self._answers.values())",
    ),
    Mutant(
        "an amnesiac answers as if it knew",
        _REJOINING,
        "        if self.amnesiac:\n            return Rejection.UNANSWERABLE\n",
        "",
    ),
    Mutant(
        "a crash ends the silence",
        _REJOINING,
        "self.amnesiac, self.until, self.above = True, until, above",
        "self.amnesiac, self.until, self.above = False, until, above",
    ),
    Mutant(
        "what is learned while mute is taken for what was said",
        _REJOINING,
        "                self._at_start = record\n",
        "                pass\n",
    ),
    Mutant(
        "an earlier answer to a question counts as the next one",
        _TRANSFER,
        "earlier = bool(chunk.nodes) and",
        "earlier = False and",
    ),
    Mutant(
        "peers are asked in the order of their numbers",
        _TRANSFER,
        "            self._by_turn.append(peer)\n",
        "            self._by_turn.append(peer)\n            self._by_turn.sort()\n",
    ),
    Mutant(
        "an answer to an earlier start counts",
        _REJOINING,
        "if self._nonce is None or reply.nonce != self._nonce or sender == self._context.id:",
        "if self._nonce is None or sender == self._context.id:",
    ),
    Mutant(
        "favours without end",
        "bft/core/escort.py",
        "if favour is None or now_ns >= favour.since_ns + parameters.rejoin_interval_ns:",
        "if True:",
    ),
    Mutant(
        "a VIEW-CHANGE is repeated all the time",
        "bft/core/reminders.py",
        "last.interval_ns = min(2 * last.interval_ns, self._first_ns << _DOUBLINGS)",
        "last.interval_ns = self._first_ns",
    ),
    Mutant(
        "who is heard again is not told at once",
        "bft/core/reminders.py",
        "if moved or before is None or now_ns - before.heard_ns > self._silence_ns:",
        "if moved:",
    ),
    Mutant(
        "courtesies without end",
        _COURTESY,
        "account.doublings = min(account.doublings + 1, ",
        "account.doublings = min(0, ",
    ),
    Mutant(
        "courtesies are forgotten with the primary",
        _COURTESY,
        "if account.granted_in != self._current.view:",
        "if False:",
    ),
    Mutant(
        "a primary can charge a replica again and again",
        _COURTESY,
        "if account.granted_in != self._current.view:",
        "if True:",
    ),
    Mutant(
        "courtesy for any view",
        _COURTESY,
        "not view < vote.message.view <= view + self._context.quorums.f + 2",
        "not view < vote.message.view",
    ),
    Mutant("courtesy for the guilty", _COURTESY, "peer in self._guilty or ", ""),
    Mutant(
        "to the view that the primary names",
        _REPLICA,
        "self._leave_view(self._view_changes.next_view(self.view), ViewChangeCause.PRIMARY_LEFT, now, out)",
        "self._leave_view(resignation.message.view, ViewChangeCause.PRIMARY_LEFT, now, out)",
    ),
    Mutant(
        "a primary that leaves is waited for",
        _REPLICA,
        "elif (resignation := self._view_changes.primary_left()) is not None:",
        "elif (resignation := None) is not None:",
    ),
    Mutant(
        "punctual proposals do not count",
        _MONITOR,
        "self._long = max(0, self._long - 2)",
        "self._long = max(0, self._long)",
    ),
    Mutant("a slow network counts against the primary", _MONITOR, "_TIMES_A_COMMIT = 4", "_TIMES_A_COMMIT = 0"),
    Mutant("nobody is slow", _MONITOR, "return self._long >= _LATE_TO_CONVINCE", "return False"),
    Mutant(
        "a rotation in vain changes nothing",
        _MONITOR,
        "self._relaxed = min(self._relaxed + 1, _RELAXED_MAX)",
        "self._relaxed = 0",
    ),
    Mutant(
        "one that was lost counts again and again",
        "bft/core/pending.py",
        "if any(not entry.held_against for entry in late):",
        "if late:",
    ),
    Mutant(
        "full batches are judged",
        "bft/core/pending.py",
        "if len(batch) >= limits.batch_requests_max or 2 * size >= limits.batch_bytes_max:",
        "if False:",
    ),
    Mutant(
        "what was not relayed counts",
        "bft/core/pending.py",
        "if not entry.proposed and entry.shown_ns is not None]\n        late = [entry for entry in shown if "
        "entry.shown_ns is not None and entry.shown_ns <= shown_by_ns]",
        "if not entry.proposed]\n        late = [entry for entry in shown if (entry.shown_ns or 0) <= shown_by_ns]",
    ),
)
