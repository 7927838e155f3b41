//! Who numbers a client's signals, and what becomes of those that were not delivered: a client that numbers
//! them is asked for them again, any other is told of the loss.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{Effect, Effects, Partner, Seat, refusal};
use crate::protocol::{ErrorCode, Sequence, ServerMessage};

/// How long after a signal was refused, or could not be handed on, its client is asked for it again.
const RESEND_DELAY: Duration = Duration::from_secs(1);

/// Who numbers the signals to the partner in this negotiation.
#[derive(Debug)]
pub(super) enum Numbering {
    /// The first of them decides.
    Open,
    Client {
        /// Whether it has sent a numbered signal on this connection.
        has_numbered: bool,
        /// What the client was last told to have been received, if it has sent nothing since.
        told: Option<u64>,
        resend: Option<Resend>,
    },
    Server {
        /// The number of the last.
        sent: u64,
        /// What `sent` was when the client was last told of a loss.
        loss_told: u64,
        /// The last signals in a row that were not delivered, each of which the client was told of.
        undelivered: Range<u64>,
    },
}

/// A request to send signals again, which is due later. Until then, those from `from` on are dropped.
#[derive(Debug)]
pub(super) struct Resend {
    /// The number of the first.
    pub(super) from: u64,
    pub(super) due: Instant,
}

impl Numbering {
    pub(super) const SERVER: Self = Self::Server { sent: 0, loss_told: 0, undelivered: 0..0 };
    pub(super) const CLIENT: Self = Self::Client { has_numbered: true, told: None, resend: None };
    /// Of a client that continues, and so should have numbered its signals before.
    pub(super) const CONTINUED: Self =
        Self::Client { has_numbered: false, told: None, resend: None };
}

impl Seat {
    /// When [`Self::on_deadline`] is due because the client is to send signals again.
    pub(in super::super) fn resend_due(&self) -> Option<Instant> {
        match &self.numbering {
            Numbering::Client { resend, .. } => resend.as_ref().map(|resend| resend.due),
            Numbering::Open | Numbering::Server { .. } => None,
        }
    }

    /// The client is to be told again how far its signals came, also if that is the same.
    pub(super) fn forget_received_told(&mut self) {
        if let Numbering::Client { told, .. } = &mut self.numbering {
            *told = None;
        }
    }

    /// Tells the client from where to send again, unless it knows.
    pub(super) fn tell_received(&mut self, seq: u64, effects: &mut Effects) {
        if let Numbering::Client { told, .. } = &mut self.numbering
            && told.replace(seq) == Some(seq)
        {
            return;
        }
        let (session_id, negotiation) = (self.session(), self.negotiation().into());
        let message = ServerMessage::Received { session_id, negotiation, seq };
        effects.push_back(Effect::Send(message.to_text()));
    }

    /// Tells the client that something it sent after number `received` is lost, once for each time,
    /// and not where it was told of each that is.
    pub(super) fn tell_loss(
        &mut self,
        received: u64,
        before: Option<u64>,
        code: ErrorCode,
        effects: &mut Effects,
    ) {
        let Numbering::Server { sent, loss_told, undelivered } = &mut self.numbering else {
            return;
        };
        let lost = received + 1..before.unwrap_or(*sent + 1);
        let told = undelivered.start <= lost.start && lost.end <= undelivered.end;
        if *sent > received.max(*loss_told) && !told {
            *loss_told = *sent;
            effects.push_back(refusal(code, self.session()));
        }
    }

    /// The signals with these numbers were not delivered. Tells the client, or asks for them again later.
    pub(in super::super) fn undelivered(
        &mut self,
        negotiation: u64,
        numbers: Range<u64>,
        code: ErrorCode,
        now: Instant,
        effects: &mut Effects,
    ) {
        let is_valid = self.is_valid(negotiation);
        match &mut self.numbering {
            Numbering::Client { .. } if is_valid => return self.resend_later(numbers.start, now),
            Numbering::Client { .. } => return,
            Numbering::Server { undelivered, .. } if is_valid => {
                let continued = undelivered.end == numbers.start;
                let start = if continued { undelivered.start } else { numbers.start };
                *undelivered = start..numbers.end;
            }
            Numbering::Open | Numbering::Server { .. } => {}
        }
        effects.push_back(refusal(code, self.session()));
    }

    /// A signal of the client with this number was refused: asks for it again later.
    pub(in super::super) fn refused(&mut self, sequence: Sequence, now: Instant) {
        if sequence.negotiation.number() != self.negotiation() {
            return;
        }
        if matches!(self.numbering, Numbering::Open) {
            self.numbering = Numbering::CLIENT;
        }
        if !matches!(self.partner, Partner::Gone { .. }) {
            self.resend_later(sequence.seq, now);
        }
    }

    fn resend_later(&mut self, number: u64, now: Instant) {
        if let Numbering::Client { resend, .. } = &mut self.numbering {
            let due = now + RESEND_DELAY;
            let resend = resend.get_or_insert(Resend { from: number, due });
            resend.from = resend.from.min(number);
        }
    }
}
