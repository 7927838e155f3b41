//! One participant's side of a session, pure: what it has been told, and what is on its way.
//!
//! The one rule behind all of it: a participant that has been told of its partner's absence is told
//! of its return by `match-found` and starts over; one that has not been told never notices, and
//! what it said in the meantime follows.

use std::{collections::VecDeque, iter::Sum, ops::Range, sync::Arc, time::Instant};

use super::Effect;
use crate::{
    config::Config,
    frame::Text,
    id::{ConnectionId, SessionId},
    notice::{LossReason, Notice, RelayedSignal},
    protocol::{Dialect, ErrorCode, ServerMessage, SignalKind},
    reason::{DisconnectReason, PartnerReason},
    session::{Place, Role, SessionRecord},
};

#[derive(Debug)]
pub(super) struct Seat {
    record: Arc<SessionRecord>,
    role: Role,
    dialect: Dialect,
    partner: Partner,
    /// Numbers the signals to the partner in this negotiation.
    sent: u64,
    /// The number of the last signal from the partner in this negotiation.
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
    Here {
        connection: ConnectionId,
        /// After the store lost the record, until when the partner has to attach again. Then it counts as
        /// gone.
        due: Option<Instant>,
    },
    /// It has not come yet: no one said that it is absent, so what is said to it is kept.
    Expected(Kept),
    Gone {
        /// Whether it was there in this negotiation: then its client has to start over, too.
        took_part: bool,
    },
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
    /// The seat of `role`, which `record` has attached. Tells the client.
    pub(super) fn take(
        record: Arc<SessionRecord>,
        role: Role,
        dialect: Dialect,
        effects: &mut Effects,
    ) -> Self {
        effects.push_back(Effect::MatchFound(record.clone(), role));
        let partner = match record.participant(role.partner()).connection() {
            Some(connection) => Partner::Here { connection: connection.clone(), due: None },
            None => Partner::Expected(Kept::default()),
        };
        Self {
            record,
            role,
            dialect,
            partner,
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

    /// Whether `record`, of the same session, says nothing new.
    pub(super) fn is_outdated(&self, record: &SessionRecord) -> bool {
        match record.opening == self.record.opening {
            true => record.revision <= self.record.revision,
            // Of two that come after the same one, the store has only one: this connection attaches to that.
            false => record.reopened < self.record.reopened,
        }
    }

    /// The negotiation in which the client takes part.
    fn negotiation(&self) -> u64 {
        // None only before the first attach, when there is no seat.
        self.record.participant(self.role).negotiation.unwrap_or(self.record.negotiation)
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

    /// Draws from a newer record, in which the own connection is attached, what it says of the partner.
    /// `looked_up` is true if the record comes from the store because notices were lost: signals may be
    /// lost with them. A partner that has not attached to a session that was opened again has until
    /// `due`.
    pub(super) fn update(
        &mut self,
        record: Arc<SessionRecord>,
        looked_up: bool,
        due: Instant,
        effects: &mut Effects,
    ) {
        let before = self.negotiation();
        let reopened = record.opening != self.record.opening;
        self.record = record;
        let participant = self.record.participant(self.role.partner());
        let reason = participant.ended.unwrap_or(PartnerReason::Lost);
        let attached = participant.connection().cloned();
        if self.negotiation() != before {
            // One of the two was taken for lost if the partner is on the same connection.
            if let Partner::Here { connection, .. } = &self.partner
                && attached.as_ref() != Some(connection)
            {
                self.partner_gone(reason, effects);
            }
            match (attached, &mut self.partner) {
                (Some(attached), _) => self.partner_comes(attached, looked_up, effects),
                (None, Partner::Gone { took_part }) => *took_part = false,
                (None, Partner::Here { .. } | Partner::Expected(_)) => {}
            }
            return;
        }
        match (&mut self.partner, attached) {
            (Partner::Here { connection, due }, Some(attached)) if *connection == attached => {
                *due = None;
            }
            // A new client of the partner joined this negotiation, which the store did not know it to have
            // taken part in: both number their signals from 1.
            (Partner::Here { .. }, Some(_)) => {
                self.partner_gone(PartnerReason::Replaced, effects);
                effects.push_back(Effect::Renew(self.record.clone()));
            }
            (Partner::Here { due: pending, .. }, None) if reopened => {
                pending.get_or_insert(due);
            }
            // It attaches again soon, or counts as gone later.
            (Partner::Here { due: Some(_), .. }, None) => {}
            (Partner::Here { .. }, None) => self.partner_gone(reason, effects),
            (Partner::Expected(_) | Partner::Gone { .. }, None) => {}
            (Partner::Expected(_) | Partner::Gone { took_part: false }, Some(attached)) => {
                // A bus may lose what is on its way when the store loses records.
                let lossy = looked_up || self.record.reopened > 0;
                self.partner_comes(attached, lossy, effects);
            }
            // It goes on as if it had never been away, and its client would not start over.
            (Partner::Gone { took_part: true }, Some(_)) => {
                effects.push_back(Effect::Renew(self.record.clone()));
            }
        }
    }

    /// The partner has attached with `connection`, and nothing was said to it yet.
    /// Its signals may be lost already if the way is `lossy`.
    fn partner_comes(&mut self, connection: ConnectionId, lossy: bool, effects: &mut Effects) {
        (self.sent, self.received, self.loss_told, self.undelivered) = (0, 0, 0, 0..0);
        match std::mem::replace(&mut self.partner, Partner::Here { connection, due: None }) {
            Partner::Expected(kept) => {
                for (kind, text) in kept.signals {
                    self.send(kind, text, effects);
                }
            }
            Partner::Gone { .. } | Partner::Here { .. } => {
                self.offered = false;
                effects.push_back(Effect::MatchFound(self.record.clone(), self.role));
            }
        }
        if lossy {
            self.report_lost(None, effects);
        }
    }

    /// When [`Self::on_deadline`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.partner {
            Partner::Here { due, .. } => *due,
            Partner::Expected(_) | Partner::Gone { .. } => None,
        }
    }

    /// Time has passed: a partner that has not attached again counts as gone.
    pub(super) fn on_deadline(&mut self, now: Instant, effects: &mut Effects) {
        if self.deadline().is_some_and(|due| due <= now) {
            self.partner_gone(PartnerReason::Lost, effects);
        }
    }

    fn partner_gone(&mut self, reason: PartnerReason, effects: &mut Effects) {
        let took_part = matches!(self.partner, Partner::Here { .. });
        self.partner = Partner::Gone { took_part };
        let reason = match self.dialect {
            Dialect::Base => None,
            Dialect::V1 => Some(reason),
        };
        let session_id = self.session();
        effects.push_back(Effect::Send(
            ServerMessage::PartnerDisconnected { session_id, reason }.to_text(),
        ));
    }

    /// A connection of the partner has ended.
    pub(super) fn partner_detached(
        &mut self,
        ended: &ConnectionId,
        reason: PartnerReason,
        effects: &mut Effects,
    ) {
        if matches!(&self.partner, Partner::Here { connection, .. } if connection == ended) {
            self.partner_gone(reason, effects);
        }
    }

    /// The session has ended: tells the client, unless it knows.
    pub(super) fn end(mut self, reason: PartnerReason, effects: &mut Effects) {
        if !self.leaving && !matches!(self.partner, Partner::Gone { .. }) {
            self.partner_gone(reason, effects);
        }
    }

    /// How much this seat keeps for its partner.
    pub(super) fn kept(&self) -> KeptTotal {
        match &self.partner {
            Partner::Expected(kept) => KeptTotal { signals: kept.signals.len(), bytes: kept.bytes },
            Partner::Here { .. } | Partner::Gone { .. } => KeptTotal::default(),
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
            Partner::Gone { .. } => Some(ErrorCode::PartnerAbsent),
            _ if from_responder && !self.offered => Some(ErrorCode::NotInitiator),
            _ if text.len() > config.max_queued_bytes => Some(ErrorCode::TooLarge),
            Partner::Here { .. } => None,
            Partner::Expected(_) if text.len() > config.max_kept_bytes => Some(ErrorCode::TooLarge),
            Partner::Expected(here) => {
                let full = kept.signals >= config.max_kept_signals
                    || kept.bytes + text.len() > config.max_kept_bytes;
                if full {
                    self.partner = Partner::Gone { took_part: false };
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
        let Partner::Here { connection, .. } = &self.partner else {
            return;
        };
        self.sent += 1;
        let SessionRecord { id, first_opening, .. } = &*self.record;
        let signal = RelayedSignal {
            session: id.clone(),
            first_opening: *first_opening,
            negotiation: self.negotiation(),
            number: self.sent,
            kind,
            text,
        };
        let to = connection.clone();
        effects.push_back(Effect::Notify { to, notice: Notice::Signal(signal) });
    }

    /// Hands a signal of the partner to the client. One of another negotiation is void: its sender
    /// learns from the record that it starts over.
    pub(super) fn receive(&mut self, signal: RelayedSignal, effects: &mut Effects) {
        if !self.is_valid(signal.negotiation) || signal.number <= self.received {
            return;
        }
        if signal.number > self.received + 1 {
            self.report_lost(Some(signal.number), effects);
        }
        self.received = signal.number;
        self.offered |= signal.kind == SignalKind::Offer;
        effects.push_back(Effect::Send(signal.text));
    }

    /// Whether signals of `negotiation` are exchanged now.
    fn is_valid(&self, negotiation: u64) -> bool {
        matches!(self.partner, Partner::Here { .. }) && negotiation == self.negotiation()
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
        if let Partner::Here { connection, .. } = &self.partner {
            let (session, negotiation) = (self.record.id.clone(), self.negotiation());
            let notice = Notice::SignalsLost { session, negotiation, received, before, reason };
            effects.push_back(Effect::Notify { to: connection.clone(), notice });
        }
    }

    /// The queue to the client had no room for signals with these numbers: tells the sender. False
    /// if they are not of the present negotiation, but perhaps of that of a record that waits in front of
    /// them.
    pub(super) fn report_refused(
        &self,
        negotiation: u64,
        numbers: &Range<u64>,
        effects: &mut Effects,
    ) -> bool {
        let valid = self.is_valid(negotiation);
        if valid {
            let (received, before) = (numbers.start - 1, Some(numbers.end));
            self.report(received, before, LossReason::QueueFull, effects);
        }
        valid
    }

    /// It is the turn of signals that were refused: their numbers count as received.
    pub(super) fn skip_refused(
        &mut self,
        negotiation: u64,
        numbers: &Range<u64>,
        reported: bool,
        effects: &mut Effects,
    ) {
        if !self.is_valid(negotiation) || numbers.end <= self.received + 1 {
            return;
        }
        if numbers.start > self.received + 1 {
            self.report_lost(Some(numbers.start), effects);
        }
        if !reported {
            self.report_refused(negotiation, numbers, effects);
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
        if let Partner::Here { connection, .. } = &self.partner
            && connection.node() == own.node()
        {
            let session = self.record.id.clone();
            // Who hangs up leaves, however its connection ends then.
            let reason = if self.leaving { PartnerReason::Left } else { reason.into() };
            let notice = Notice::Detached { session, connection: own.clone(), reason };
            effects.push_back(Effect::Notify { to: connection.clone(), notice });
        }
    }

    /// Notices to this node may be lost: signals of a partner on another node among them, which it
    /// must be told, and its word that signals of the own client were lost, which is then taken as
    /// said.
    pub(super) fn notices_lost(&mut self, own: &ConnectionId, effects: &mut Effects) {
        let elsewhere = |connection: &ConnectionId| connection.node() != own.node();
        if matches!(&self.partner, Partner::Here { connection, .. } if elsewhere(connection)) {
            self.report_lost(None, effects);
            self.tell_loss(0, None, ErrorCode::Unavailable, effects);
        }
    }

    /// Signals to the partner did not arrive: tells the client, once for each loss.
    pub(super) fn signals_lost(
        &mut self,
        negotiation: u64,
        received: u64,
        before: Option<u64>,
        code: ErrorCode,
        effects: &mut Effects,
    ) {
        if self.is_valid(negotiation) {
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
    pub(super) fn undelivered(&mut self, negotiation: u64, numbers: Range<u64>) {
        if self.is_valid(negotiation) {
            let told = &mut self.undelivered;
            let start = if told.end == numbers.start { told.start } else { numbers.start };
            *told = start..numbers.end;
        }
    }
}

fn refusal(code: ErrorCode, session: &SessionId) -> Effect {
    Effect::Send(ServerMessage::error(code, Some(session)).to_text())
}
