//! One participant's side of a session, pure: what it has been told, and what is on its way.
//!
//! A participant that has been told of its partner's absence is told of its return: by
//! `partner-reconnected` if both clients continue their negotiation, otherwise by `match-found`, and
//! they start over. One that has not been told of the absence is not told of the return, and its partner
//! receives what it sent in between.
//!
//! A client that numbers its signals sends them again from where it is told by `received` (go-back-N):
//! the seat of its partner drops what is behind a gap. The signals of other clients are numbered by their
//! seat; what is missing of them is lost, and their client told by `error`.

mod numbering;

use std::{
    collections::VecDeque, iter::Sum, num::NonZeroU64, ops::Range, sync::Arc, time::Instant,
};

use super::Effect;
use crate::{
    config::Config,
    frame::Text,
    id::{ConnectionId, SessionId},
    notice::{LossReason, Notice, RelayedSignal},
    protocol::{Dialect, ErrorCode, Sequence, ServerMessage, SignalKind, with_sequence},
    reason::{DisconnectReason, PartnerReason},
    session::{Place, Role, SessionRecord},
};
use numbering::{Numbering, Resend};

#[derive(Debug)]
pub(super) struct Seat {
    record: Arc<SessionRecord>,
    role: Role,
    dialect: Dialect,
    partner: Partner,
    /// The partner's client with which signals are exchanged; none if that cannot continue.
    partner_client: Option<NonZeroU64>,
    /// Whether the partner has sent signals without a number of its client's.
    partner_unnumbered: bool,
    /// The negotiation of which the client was last told.
    told: u64,
    numbering: Numbering,
    /// The number of the last signal from the partner in this negotiation.
    received: u64,
    /// The number of the last of the partner's signals in a row that were dropped behind a gap, of which its
    /// client was told; 0 if none.
    dropped: u64,
    /// Whether the initiator's first offer of this negotiation has passed.
    offered: bool,
    leaving: bool,
}

/// The partner's state, as the client was last told.
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
        /// Whether it took part in this negotiation: then its client has to start over, too, or continues.
        took_part: bool,
    },
}

#[derive(Debug, Default)]
struct Kept {
    /// Each with the number that its client gave it.
    signals: Vec<(SignalKind, Text, Option<u64>)>,
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
    /// The seat of `role`, which `record` has attached. Tells the client: that it continues if it `continued`
    /// the negotiation, in which it has received signals up to that number.
    pub(super) fn take(
        record: Arc<SessionRecord>,
        role: Role,
        dialect: Dialect,
        continued: Option<u64>,
        effects: &mut Effects,
    ) -> Self {
        let participant = record.participant(role.partner());
        let attached = participant.connection().cloned();
        let took_part = participant.negotiation == Some(record.negotiation);
        let partner = match (&attached, continued) {
            (Some(connection), _) => Partner::Here { connection: connection.clone(), due: None },
            (None, None) => Partner::Expected(Kept::default()),
            // Its client is told so.
            (None, Some(_)) => Partner::Gone { took_part },
        };
        let received = continued.unwrap_or(0);
        let mut seat = Self {
            role,
            dialect,
            partner,
            partner_client: participant.client,
            partner_unnumbered: false,
            told: 0,
            numbering: if continued.is_some() { Numbering::CONTINUED } else { Numbering::Open },
            received,
            dropped: 0,
            // The first of the partner's signals is its offer.
            offered: received > 0,
            leaving: false,
            record,
        };
        if continued.is_none() {
            seat.tell_match(effects);
            return seat;
        }
        seat.told = seat.negotiation();
        effects.push_back(Effect::Send(
            ServerMessage::Continued {
                session_id: seat.session(),
                negotiation: seat.told.into(),
                partner_connected: attached.is_some(),
            }
            .to_text(),
        ));
        seat.exchange_received(effects);
        seat
    }

    /// A new negotiation begins for the client.
    fn tell_match(&mut self, effects: &mut Effects) {
        self.told = self.negotiation();
        self.numbering = Numbering::Open;
        self.partner_unnumbered = false;
        (self.received, self.dropped, self.offered) = (0, 0, false);
        effects.push_back(Effect::MatchFound(self.record.clone(), self.role));
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

    /// Whether the client can continue its negotiation.
    fn can_continue(&self) -> bool {
        self.dialect == Dialect::V1 && !matches!(self.numbering, Numbering::Server { .. })
    }

    /// The negotiation that the client can continue if this connection attaches again.
    pub(super) fn to_continue(&self) -> Option<u64> {
        let knows_it = self.told == self.negotiation();
        (self.can_continue() && knows_it).then_some(self.told)
    }

    /// Whether the partner that has attached continues this negotiation as both clients know it.
    fn partner_continues(&self) -> bool {
        let client = self.record.participant(self.role.partner()).client;
        self.to_continue().is_some()
            && !self.partner_unnumbered
            && client.is_some()
            && client == self.partner_client
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
        let continues = self.partner_continues();
        match (&mut self.partner, attached) {
            (Partner::Here { connection, due }, Some(attached)) if *connection == attached => {
                *due = None;
            }
            (Partner::Here { connection, due }, Some(attached)) if continues => {
                (*connection, *due) = (attached, None);
                self.dropped = 0;
                self.forget_received_told();
                self.exchange_received(effects);
            }
            // Another client of the partner joined this negotiation, which the store did not know it to have
            // taken part in, or one of the two cannot continue: both number their signals from 1.
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
            // Its client would not start over by itself: a new negotiation is needed.
            (Partner::Gone { took_part: true }, Some(_)) if !continues => {
                effects.push_back(Effect::Renew(self.record.clone()));
            }
            (Partner::Expected(_) | Partner::Gone { .. }, Some(attached)) => {
                // A bus may lose what is on its way when the store loses records.
                let lossy = looked_up || self.record.reopened > 0;
                self.partner_comes(attached, lossy, effects);
            }
        }
    }

    /// The partner has attached with `connection`, and nothing was said to it yet.
    /// Its signals may be lost already if the way is `lossy`.
    fn partner_comes(&mut self, connection: ConnectionId, lossy: bool, effects: &mut Effects) {
        self.partner_client = self.record.participant(self.role.partner()).client;
        let before = std::mem::replace(&mut self.partner, Partner::Here { connection, due: None });
        let knows_negotiation = self.told == self.negotiation();
        match before {
            Partner::Expected(kept) if knows_negotiation || self.dialect == Dialect::Base => {
                for (kind, text, number) in kept.signals {
                    self.send(kind, text, number, effects);
                }
            }
            Partner::Gone { .. } if self.to_continue().is_some() => {
                let message = ServerMessage::PartnerReconnected {
                    session_id: self.session(),
                    negotiation: self.told.into(),
                };
                effects.push_back(Effect::Send(message.to_text()));
                return self.exchange_received(effects);
            }
            Partner::Expected(_) | Partner::Gone { .. } | Partner::Here { .. } => {
                self.tell_match(effects);
            }
        }
        if lossy {
            self.report_lost(None, effects);
        }
    }

    /// When [`Self::on_deadline`] is due because of the partner.
    pub(super) fn partner_due(&self) -> Option<Instant> {
        match &self.partner {
            Partner::Here { due, .. } => *due,
            Partner::Expected(_) | Partner::Gone { .. } => None,
        }
    }

    /// Time has passed: a partner that has not attached again counts as gone, and the client is asked for what
    /// was not delivered.
    pub(super) fn on_deadline(&mut self, now: Instant, effects: &mut Effects) {
        if self.partner_due().is_some_and(|due| due <= now) {
            self.partner_gone(PartnerReason::Lost, effects);
        }
        if let Numbering::Client { resend, .. } = &mut self.numbering
            && let Some(Resend { from, .. }) = resend.take_if(|resend| resend.due <= now)
        {
            self.forget_received_told();
            self.tell_received(from - 1, effects);
        }
    }

    fn partner_gone(&mut self, reason: PartnerReason, effects: &mut Effects) {
        let took_part = matches!(self.partner, Partner::Here { .. });
        self.partner = Partner::Gone { took_part };
        self.dropped = 0;
        self.forget_received_told();
        if let Numbering::Client { resend, .. } = &mut self.numbering {
            // It learns how far its signals came when the partner is back.
            *resend = None;
        }
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
    /// sessions. `sequence` is where its client says that it belongs. One of another negotiation is dropped:
    /// the client has a `match-found` on its way.
    pub(super) fn relay(
        &mut self,
        kind: SignalKind,
        text: Text,
        sequence: Option<Sequence>,
        kept: KeptTotal,
        config: &Config,
        effects: &mut Effects,
    ) {
        if sequence.is_some_and(|sequence| sequence.negotiation.number() != self.negotiation()) {
            return;
        }
        let number = sequence.map(|sequence| sequence.seq);
        match (&mut self.numbering, number) {
            (Numbering::Open, Some(_)) => self.numbering = Numbering::CLIENT,
            (Numbering::Open, None) => self.numbering = Numbering::SERVER,
            (Numbering::Client { has_numbered, told, resend }, Some(number)) => {
                if resend.as_ref().is_some_and(|resend| resend.from <= number) {
                    return;
                }
                (*has_numbered, *told) = (true, None);
            }
            // It may not continue: both start over.
            (Numbering::Client { has_numbered: false, .. }, None) => {
                return effects.push_back(Effect::Renew(self.record.clone()));
            }
            (Numbering::Server { .. }, None) => {}
            (Numbering::Client { .. }, None) | (Numbering::Server { .. }, Some(_)) => {
                return effects.push_back(refusal(ErrorCode::Malformed, self.session()));
            }
        }
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
                    here.signals.push((kind, text.detached(), number));
                    return;
                }
            }
        };
        match refused {
            Some(code) => effects.push_back(refusal(code, self.session())),
            None => self.send(kind, text, number, effects),
        }
    }

    /// `number` is the one that the client gave it.
    fn send(&mut self, kind: SignalKind, text: Text, number: Option<u64>, effects: &mut Effects) {
        let Partner::Here { connection, .. } = &self.partner else {
            return;
        };
        let to = connection.clone();
        let counted = match &mut self.numbering {
            Numbering::Server { sent, .. } => {
                *sent += 1;
                *sent
            }
            Numbering::Open | Numbering::Client { .. } => 0,
        };
        let SessionRecord { id, first_opening, .. } = &*self.record;
        let signal = RelayedSignal {
            session: id.clone(),
            first_opening: *first_opening,
            negotiation: self.negotiation(),
            number: number.unwrap_or(counted),
            numbered: number.is_some(),
            kind,
            text,
        };
        effects.push_back(Effect::Notify { to, notice: Notice::Signal(signal) });
    }

    /// Hands a signal of the partner to the client. One of another negotiation is void: its sender
    /// learns from the record that it starts over.
    pub(super) fn receive(&mut self, signal: RelayedSignal, effects: &mut Effects) {
        let RelayedSignal { negotiation, number, numbered, kind, text, .. } = signal;
        if !self.is_valid(negotiation) || number <= self.received {
            return;
        }
        self.partner_unnumbered |= !numbered;
        if number > self.received + 1 {
            if numbered {
                return self.drop_behind_gap(number, effects);
            }
            self.report_lost(Some(number), effects);
        }
        (self.received, self.dropped) = (number, 0);
        self.offered |= kind == SignalKind::Offer;
        let text = match (self.dialect, numbered) {
            (Dialect::Base, false) | (Dialect::V1, true) => text,
            (Dialect::Base, true) => with_sequence(&text, None),
            (Dialect::V1, false) => {
                let negotiation = negotiation.into();
                with_sequence(&text, Some(Sequence { negotiation, seq: number }))
            }
        };
        effects.push_back(Effect::Send(text));
    }

    /// The partner's client sends this signal again, once it is told what is missing. It is told once for
    /// those that were on their way behind the gap, and again if the numbers go back and there is still a
    /// gap.
    fn drop_behind_gap(&mut self, number: u64, effects: &mut Effects) {
        let is_next_in_row = self.dropped > 0 && number > self.dropped;
        self.dropped = number;
        if !is_next_in_row {
            self.report_lost(Some(number), effects);
        }
    }

    /// Whether signals of `negotiation` are exchanged now.
    fn is_valid(&self, negotiation: u64) -> bool {
        matches!(self.partner, Partner::Here { .. }) && negotiation == self.negotiation()
    }

    /// Tells the partner's connection how far its signals have come before a gap, which ends
    /// `before` a number if that is known.
    fn report_lost(&self, before: Option<u64>, effects: &mut Effects) {
        self.report(self.received, before, LossReason::Lost, false, effects);
    }

    /// Tells the partner's connection how far its signals have come, and asks for the same.
    fn exchange_received(&self, effects: &mut Effects) {
        self.report(self.received, None, LossReason::Lost, true, effects);
    }

    fn report(
        &self,
        seq: u64,
        before: Option<u64>,
        reason: LossReason,
        answer: bool,
        effects: &mut Effects,
    ) {
        if let Partner::Here { connection, .. } = &self.partner {
            let (session, negotiation) = (self.record.id.clone(), self.negotiation());
            let notice = Notice::Received { session, negotiation, seq, before, reason, answer };
            effects.push_back(Effect::Notify { to: connection.clone(), notice });
        }
    }

    /// The queue to the client had no room for signals with these numbers: tells the sender. False
    /// if they are not of the present negotiation, but perhaps of that of a record that waits in front of
    /// them; or if the sender's client numbered them, and is to send them again when it is their turn.
    pub(super) fn report_refused(
        &self,
        negotiation: u64,
        numbers: &Range<u64>,
        numbered: bool,
        effects: &mut Effects,
    ) -> bool {
        let reports = !numbered && self.is_valid(negotiation);
        if reports {
            let (seq, before) = (numbers.start - 1, Some(numbers.end));
            self.report(seq, before, LossReason::QueueFull, false, effects);
        }
        reports
    }

    /// It is the turn of signals that were refused: their numbers count as received, unless their sender's
    /// client numbered them and sends them again.
    pub(super) fn skip_refused(
        &mut self,
        negotiation: u64,
        numbers: &Range<u64>,
        numbered: bool,
        reported: bool,
        effects: &mut Effects,
    ) {
        if !self.is_valid(negotiation) || numbers.end <= self.received + 1 {
            return;
        }
        if numbered {
            self.dropped = numbers.end - 1;
            return self.report(self.received, None, LossReason::QueueFull, false, effects);
        }
        if numbers.start > self.received + 1 {
            self.report_lost(Some(numbers.start), effects);
        }
        if !reported {
            self.report_refused(negotiation, numbers, false, effects);
        }
        self.received = numbers.end - 1;
    }

    /// The own connection ends. A partner on the same node is told at once, whatever the store
    /// does; one on another node learns it from the record. So does any partner of a client that can continue:
    /// it may have a newer connection already, on another node, which the record knows and this node does not.
    pub(super) fn tell_local_partner(
        &self,
        own: &ConnectionId,
        reason: DisconnectReason,
        effects: &mut Effects,
    ) {
        if let Partner::Here { connection, .. } = &self.partner
            && connection.node() == own.node()
            && reason != DisconnectReason::Replaced
            && (self.leaving || self.to_continue().is_none())
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
    /// said, or asked for if the client can send them again.
    pub(super) fn notices_lost(&mut self, own: &ConnectionId, effects: &mut Effects) {
        let elsewhere = |connection: &ConnectionId| connection.node() != own.node();
        if matches!(&self.partner, Partner::Here { connection, .. } if elsewhere(connection)) {
            if matches!(self.numbering, Numbering::Client { .. }) {
                return self.exchange_received(effects);
            }
            self.report_lost(None, effects);
            self.tell_loss(0, None, ErrorCode::Unavailable, effects);
        }
    }

    /// The partner has the client's signals up to `seq`, and later ones are lost if there are any: tells the
    /// client. Tells the partner the same if it wants an `answer`.
    pub(super) fn on_received(
        &mut self,
        negotiation: u64,
        seq: u64,
        before: Option<u64>,
        reason: LossReason,
        answer: bool,
        effects: &mut Effects,
    ) {
        if !self.is_valid(negotiation) {
            return;
        }
        match &mut self.numbering {
            Numbering::Client { resend: Some(resend), .. } => {
                resend.from = resend.from.min(seq + 1);
            }
            Numbering::Client { .. } => self.tell_received(seq, effects),
            Numbering::Open if answer && self.dialect == Dialect::V1 => {
                self.tell_received(seq, effects);
            }
            Numbering::Open => {}
            Numbering::Server { .. } => self.tell_loss(seq, before, reason.into(), effects),
        }
        if answer {
            self.report_lost(None, effects);
        }
    }
}

fn refusal(code: ErrorCode, session: &SessionId) -> Effect {
    Effect::Send(ServerMessage::error(code, Some(session)).to_text())
}
