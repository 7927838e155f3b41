//! One participant's side of a session, pure: what it has been told, and what is on its way.
//!
//! The one rule behind all of it: a participant that has been told of its partner's absence is told
//! of its return by `match-found` and starts over; one that has not been told never notices, and
//! what it said in the meantime follows.

use std::{collections::VecDeque, iter::Sum, ops::Range, sync::Arc, time::Duration};

use super::{DisconnectReason, Effect};
use crate::{
    config::Config,
    frame::Text,
    id::{ConnectionId, SessionId},
    notice::{LossReason, Notice, Pair, RelayedSignal},
    protocol::{Dialect, ErrorCode, PartnerReason, ServerMessage, SignalKind},
    session::{Attachment, Place, Role, SessionRecord},
    time::Timestamp,
};

#[derive(Debug)]
pub(super) struct Seat {
    record: Arc<SessionRecord>,
    role: Role,
    dialect: Dialect,
    since: u64,
    partner: Partner,
    /// The newest of the partner's attachments that was here, by what it is since.
    newest: u64,
    /// Numbers the signals to the partner's attachment.
    sent: u64,
    /// The number of the last signal from the partner's attachment.
    received: u64,
    /// What `sent` was when the client was last told of a loss.
    loss_told: u64,
    /// The last signals in a row of each of which the client was told that it got nowhere.
    undelivered: Range<u64>,
    /// Whether the initiator's first offer of this negotiation has passed.
    offered: bool,
    leaving: bool,
}

/// What the participant has been led to believe of its partner.
#[derive(Debug)]
enum Partner {
    /// It is there.
    Here(Attachment),
    /// It will come: nobody said that it is absent, so what is said to it is kept.
    Expected(Kept),
    /// It is absent.
    Gone(Option<Left>),
}

/// The partner's last attachment. A store that has lost writes may have it again.
#[derive(Debug)]
struct Left {
    attachment: Attachment,
    /// Why the client was told that it is gone.
    reason: PartnerReason,
    /// Its connection said that it is over, whatever a record says.
    for_good: bool,
}

#[derive(Debug, Default)]
struct Kept {
    signals: Vec<(SignalKind, Text)>,
    bytes: usize,
}

/// How much is kept for partners that are expected.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeptTotal {
    signals: usize,
    bytes: usize,
}

impl Sum for KeptTotal {
    fn sum<I: Iterator<Item = Self>>(kept: I) -> Self {
        kept.fold(Self::default(), |sum, kept| Self {
            signals: sum.signals + kept.signals,
            bytes: sum.bytes + kept.bytes,
        })
    }
}

type Effects = VecDeque<Effect>;

impl Seat {
    /// The seat of `role`, which `record` has attached. Tells the client and the partner.
    pub(super) fn take(
        record: Arc<SessionRecord>,
        role: Role,
        dialect: Dialect,
        effects: &mut Effects,
    ) -> Self {
        let since = record.participant(role).attachment().map_or(0, |own| own.since);
        let partner = record.participant(role.partner()).attachment().cloned();
        effects.push_back(Effect::MatchFound(record.clone(), role));
        if let Some(partner) = &partner {
            let to = partner.connection.clone();
            effects.push_back(Effect::Notify { to, notice: Notice::Changed(record.clone()) });
        }
        let newest = partner.as_ref().map_or(0, |partner| partner.since);
        let partner = partner.map_or(Partner::Expected(Kept::default()), Partner::Here);
        Self {
            record,
            role,
            dialect,
            since,
            partner,
            newest,
            sent: 0,
            received: 0,
            loss_told: 0,
            undelivered: 0..0,
            offered: false,
            leaving: false,
        }
    }

    pub(super) fn session(&self) -> &SessionId {
        &self.record.id
    }

    pub(super) fn record(&self) -> &Arc<SessionRecord> {
        &self.record
    }

    pub(super) fn place(&self) -> Place {
        let SessionRecord { id, opening, revision, .. } = &*self.record;
        Place { session: id.clone(), role: self.role, opening: *opening, revision: *revision }
    }

    /// The record without what this seat knows to be over; none while the client is leaving.
    pub(super) fn restorable(
        &self,
        now: Timestamp,
        patience: Duration,
    ) -> Option<Arc<SessionRecord>> {
        if self.leaving {
            return None;
        }
        let Partner::Gone(Some(Left { attachment, reason, for_good: true })) = &self.partner else {
            return Some(self.record.clone());
        };
        let detached = self.record.detach(&attachment.connection, *reason, now, patience);
        Some(detached.map_or_else(|| self.record.clone(), Arc::new))
    }

    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// The client hangs up; false when it already did.
    pub(super) fn leave(&mut self) -> bool {
        !std::mem::replace(&mut self.leaving, true)
    }

    /// The end that the client asked for could not be written.
    pub(super) fn stay(&mut self, effects: &mut Effects) {
        self.leaving = false;
        effects.push_back(refusal(ErrorCode::Unavailable, self.session()));
    }

    /// Remembers a newer record in which this participant's own attachment is gone.
    pub(super) fn note(&mut self, record: Arc<SessionRecord>) {
        self.record = record;
    }

    /// Draws from a newer record what it says of the partner. `looked_up` is true where the record
    /// comes from the store because notices were lost: signals may be lost with them.
    pub(super) fn update(
        &mut self,
        record: Arc<SessionRecord>,
        looked_up: bool,
        effects: &mut Effects,
    ) {
        self.record = record;
        let participant = self.record.participant(self.role.partner());
        // Not said by an older version, which wrote a loss as any other end.
        let reason = participant.ended.unwrap_or(PartnerReason::Lost);
        let partner = participant.attachment().cloned();
        match (&self.partner, partner) {
            (Partner::Here(old), Some(new)) if *old == new => {}
            (Partner::Gone(Some(left)), Some(new)) if left.for_good && left.attachment == new => {}
            (Partner::Here(_), None) => self.partner_gone(reason, effects),
            (Partner::Expected(_) | Partner::Gone(_), None) => {}
            (now, Some(new)) if new.since <= self.newest => {
                if matches!(now, Partner::Here(_)) {
                    // The store has lost the attachment that was here, and nobody ended it.
                    self.partner_gone(PartnerReason::Lost, effects);
                }
                // It has come back with a lost write and not noticed anything, so it would not
                // start over.
                effects.push_back(Effect::Renew(self.record.clone()));
            }
            (_, Some(new)) => {
                self.partner_here(new, reason, effects);
                if looked_up {
                    self.report_lost(None, effects);
                }
            }
        }
    }

    /// The partner has a new attachment; its last one ended for `reason`.
    fn partner_here(&mut self, new: Attachment, reason: PartnerReason, effects: &mut Effects) {
        if matches!(self.partner, Partner::Here(_)) {
            self.partner_gone(reason, effects);
        }
        (self.sent, self.received, self.loss_told, self.undelivered) = (0, 0, 0, 0..0);
        self.newest = new.since;
        match std::mem::replace(&mut self.partner, Partner::Here(new)) {
            Partner::Expected(kept) => {
                for (kind, text) in kept.signals {
                    self.send(kind, text, effects);
                }
            }
            Partner::Gone(_) | Partner::Here(_) => {
                self.offered = false;
                effects.push_back(Effect::MatchFound(self.record.clone(), self.role));
            }
        }
    }

    fn partner_gone(&mut self, reason: PartnerReason, effects: &mut Effects) {
        self.partner = match std::mem::replace(&mut self.partner, Partner::Gone(None)) {
            Partner::Here(attachment) => {
                Partner::Gone(Some(Left { attachment, reason, for_good: false }))
            }
            other @ Partner::Gone(_) => other,
            Partner::Expected(_) => Partner::Gone(None),
        };
        let reason = match self.dialect {
            Dialect::Base => None,
            Dialect::V1 => Some(reason),
        };
        let session_id = self.session();
        effects.push_back(Effect::Send(
            ServerMessage::PartnerDisconnected { session_id, reason }.to_text(),
        ));
    }

    /// The partner's attachment `since` has ended.
    pub(super) fn partner_detached(
        &mut self,
        since: u64,
        reason: PartnerReason,
        effects: &mut Effects,
    ) {
        if matches!(&self.partner, Partner::Here(partner) if partner.since == since) {
            self.partner_gone(reason, effects);
        }
        if let Partner::Gone(Some(left)) = &mut self.partner {
            left.for_good |= left.attachment.since == since;
        }
    }

    /// The session has ended: tells the client, unless it knows.
    pub(super) fn end(mut self, reason: PartnerReason, effects: &mut Effects) {
        if !self.leaving && !matches!(self.partner, Partner::Gone(_)) {
            self.partner_gone(reason, effects);
        }
    }

    /// What the partner is to be told if the session, which is over for `reason` as the client is
    /// told, turns out to be there again and is ended once more.
    pub(super) fn reason_for_partner(&self, reason: PartnerReason) -> PartnerReason {
        match reason {
            _ if self.leaving => PartnerReason::Left,
            // It was the partner itself that left.
            PartnerReason::Left => PartnerReason::Ended,
            other => other,
        }
    }

    /// How much this seat keeps for its partner.
    pub(super) fn kept(&self) -> KeptTotal {
        match &self.partner {
            Partner::Expected(kept) => KeptTotal { signals: kept.signals.len(), bytes: kept.bytes },
            Partner::Here(_) | Partner::Gone(_) => KeptTotal::default(),
        }
    }

    /// Relays, keeps or refuses a signal of the own client, for which so much is `kept` in all its
    /// sessions.
    pub(super) fn relay(
        &mut self,
        kind: SignalKind,
        text: Text,
        kept: KeptTotal,
        config: &Config,
        effects: &mut Effects,
    ) {
        let from_responder = self.role == Role::Responder && kind == SignalKind::Offer;
        let refused = match &mut self.partner {
            Partner::Gone(_) => Some(ErrorCode::PartnerAbsent),
            _ if from_responder && !self.offered => Some(ErrorCode::NotInitiator),
            _ if text.len() > config.max_queued_bytes => Some(ErrorCode::TooLarge),
            Partner::Here(_) => None,
            Partner::Expected(_) if text.len() > config.max_kept_bytes => Some(ErrorCode::TooLarge),
            Partner::Expected(here) => {
                let full = kept.signals >= config.max_kept_signals
                    || kept.bytes + text.len() > config.max_kept_bytes;
                if full {
                    self.partner = Partner::Gone(None);
                    Some(ErrorCode::PartnerAbsent)
                } else {
                    here.bytes += text.len();
                    here.signals.push((kind, text.detached()));
                    return;
                }
            }
        };
        match refused {
            Some(code) => effects.push_back(refusal(code, self.session())),
            None => self.send(kind, text, effects),
        }
    }

    fn send(&mut self, kind: SignalKind, text: Text, effects: &mut Effects) {
        let Partner::Here(partner) = &self.partner else {
            return;
        };
        self.sent += 1;
        let pair = self.pair_to(partner);
        let signal =
            RelayedSignal { session: self.record.id.clone(), pair, number: self.sent, kind, text };
        let to = partner.connection.clone();
        effects.push_back(Effect::Notify { to, notice: Notice::Signal(signal) });
    }

    /// Hands a signal of the partner to the client. One between other attachments than those of
    /// now is void: its sender learns from the record that it starts over.
    pub(super) fn receive(&mut self, signal: RelayedSignal, effects: &mut Effects) {
        if self.pair_to_here() != Some(signal.pair) || signal.number <= self.received {
            return;
        }
        if signal.number > self.received + 1 {
            self.report_lost(Some(signal.number), effects);
        }
        self.received = signal.number;
        self.offered |= signal.kind == SignalKind::Offer;
        effects.push_back(Effect::Send(signal.text));
    }

    fn pair_to(&self, partner: &Attachment) -> Pair {
        Pair { opening: self.record.opening, from: self.since, to: partner.since }
    }

    /// The attachments between which a signal from this seat is valid now.
    fn pair_from_here(&self) -> Option<Pair> {
        match &self.partner {
            Partner::Here(partner) => Some(self.pair_to(partner)),
            Partner::Expected(_) | Partner::Gone(_) => None,
        }
    }

    /// The attachments between which a signal to this seat is valid now.
    fn pair_to_here(&self) -> Option<Pair> {
        match &self.partner {
            Partner::Here(partner) => {
                Some(Pair { opening: self.record.opening, from: partner.since, to: self.since })
            }
            Partner::Expected(_) | Partner::Gone(_) => None,
        }
    }

    /// Tells the partner's connection how far its signals have come before a gap, which ends
    /// `before` a number if that is known.
    fn report_lost(&self, before: Option<u64>, effects: &mut Effects) {
        self.report(self.received, before, LossReason::Lost, effects);
    }

    fn report(
        &self,
        received: u64,
        before: Option<u64>,
        reason: LossReason,
        effects: &mut Effects,
    ) {
        if let (Partner::Here(partner), Some(pair)) = (&self.partner, self.pair_to_here()) {
            let session = self.record.id.clone();
            let notice = Notice::SignalsLost { session, pair, received, before, reason };
            effects.push_back(Effect::Notify { to: partner.connection.clone(), notice });
        }
    }

    /// The queue to the client had no room for signals with these numbers: tells the sender. False
    /// when they are not for the attachments of now, which may be those of a record that waits in
    /// front of them.
    pub(super) fn report_refused(
        &self,
        pair: Pair,
        numbers: &Range<u64>,
        effects: &mut Effects,
    ) -> bool {
        let valid = self.pair_to_here() == Some(pair);
        if valid {
            let (received, before) = (numbers.start - 1, Some(numbers.end));
            self.report(received, before, LossReason::QueueFull, effects);
        }
        valid
    }

    /// It is the turn of signals that were refused: their numbers count as received.
    pub(super) fn skip_refused(
        &mut self,
        pair: Pair,
        numbers: &Range<u64>,
        reported: bool,
        effects: &mut Effects,
    ) {
        if self.pair_to_here() != Some(pair) || numbers.end <= self.received + 1 {
            return;
        }
        if numbers.start > self.received + 1 {
            self.report_lost(Some(numbers.start), effects);
        }
        if !reported {
            self.report_refused(pair, numbers, effects);
        }
        self.received = numbers.end - 1;
    }

    /// The own connection ends. A partner on the same node is told at once, whatever the store
    /// does; one on another node learns it from the record.
    pub(super) fn tell_local_partner(
        &self,
        own: &ConnectionId,
        reason: DisconnectReason,
        effects: &mut Effects,
    ) {
        if let Partner::Here(partner) = &self.partner
            && partner.connection.node() == own.node()
        {
            let (session, opening) = (self.record.id.clone(), self.record.opening);
            // Who hangs up leaves, however its connection ends then.
            let reason = if self.leaving { PartnerReason::Left } else { reason.into() };
            let notice = Notice::Detached { session, opening, since: self.since, reason };
            effects.push_back(Effect::Notify { to: partner.connection.clone(), notice });
        }
    }

    /// Notices to this node may be lost: signals of a partner on another node among them, which it
    /// must be told, and its word that signals of the own client were lost, which is then taken as
    /// said.
    pub(super) fn notices_lost(&mut self, own: &ConnectionId, effects: &mut Effects) {
        if matches!(&self.partner, Partner::Here(p) if p.connection.node() != own.node()) {
            self.report_lost(None, effects);
            self.tell_loss(0, None, ErrorCode::Unavailable, effects);
        }
    }

    /// Signals to the partner did not arrive: tells the client, once for each loss.
    pub(super) fn signals_lost(
        &mut self,
        pair: Pair,
        received: u64,
        before: Option<u64>,
        code: ErrorCode,
        effects: &mut Effects,
    ) {
        if self.pair_from_here() == Some(pair) {
            self.tell_loss(received, before, code, effects);
        }
    }

    /// Tells the client that something it sent after number `received` is lost, once for each time,
    /// and not where it was told of each that is.
    fn tell_loss(
        &mut self,
        received: u64,
        before: Option<u64>,
        code: ErrorCode,
        effects: &mut Effects,
    ) {
        let lost = received + 1..before.unwrap_or(self.sent + 1);
        let told = self.undelivered.start <= lost.start && lost.end <= self.undelivered.end;
        if self.sent > received.max(self.loss_told) && !told {
            self.loss_told = self.sent;
            effects.push_back(refusal(code, self.session()));
        }
    }

    /// The signals with these numbers got nowhere, and the client is told by itself.
    pub(super) fn undelivered(&mut self, pair: Pair, numbers: Range<u64>) {
        if self.pair_from_here() == Some(pair) {
            let told = &mut self.undelivered;
            let start = if told.end == numbers.start { told.start } else { numbers.start };
            *told = start..numbers.end;
        }
    }
}

fn refusal(code: ErrorCode, session: &SessionId) -> Effect {
    Effect::Send(ServerMessage::error(code, Some(session)).to_text())
}
