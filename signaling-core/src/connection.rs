//! The rules of one connection, pure: what its client says, what it is told, and when it is given
//! up.
//!
//! Inputs go in with the moment they happened; effects come out of [`Connection::next_effect`] and
//! are to be carried out in that order, all of them before the next input. Between inputs,
//! [`Connection::deadline`] says when [`Connection::on_deadline`] is due.

mod effect;
mod ice;
mod rate;
mod reason;
mod seat;

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::Config,
    frame::{Frame, Text, TransportError},
    id::{ConnectionId, SessionId, UserId},
    notice::{Notice, Pair},
    protocol::{ClientMessage, Dialect, ErrorCode, IceServer, PartnerReason, ServerMessage},
    session::{Participant, Place, Role, SessionRecord},
    time::Timestamp,
};

pub(crate) use effect::Effect;
use ice::Ice;
pub(crate) use rate::UserLimits;
use rate::Verdict;
pub use reason::DisconnectReason;
use seat::Seat;

/// How many ended sessions are remembered, so that late news of them is known as such.
const REMEMBERED_ENDS: usize = 8;
/// Effects that there is room for while nothing happens.
const EFFECTS_AT_REST: usize = 2;

#[derive(Debug)]
pub(crate) struct Connection {
    id: ConnectionId,
    user: UserId,
    dialect: Dialect,
    config: Arc<Config>,
    epoch: Option<u64>,
    seats: Vec<Seat>,
    ended: VecDeque<(u64, PartnerReason)>,
    effects: VecDeque<Effect>,
    heartbeat_due: Instant,
    sound_due: Instant,
    ping_due: Instant,
    /// When the transport has taken nothing for too long; none while nothing waits for it.
    write_due: Option<Instant>,
    token_expires: Option<Instant>,
    limits: Arc<UserLimits>,
    malformed: u32,
    /// None where the client is told of no ICE servers.
    ice: Option<Box<Ice>>,
    closed: bool,
}

impl Connection {
    /// A connection that was accepted at `now` with a token that holds for `token_life`, of a user
    /// with these `limits`.
    pub(crate) fn new(
        id: ConnectionId,
        user: UserId,
        dialect: Dialect,
        config: Arc<Config>,
        limits: Arc<UserLimits>,
        token_life: Option<Duration>,
        now: Instant,
    ) -> Self {
        Self {
            id,
            user,
            dialect,
            epoch: None,
            seats: Vec::new(),
            ended: VecDeque::new(),
            effects: VecDeque::with_capacity(EFFECTS_AT_REST),
            heartbeat_due: now + config.heartbeat_timeout,
            sound_due: now + config.silence_timeout,
            ping_due: now + config.ping_interval,
            write_due: None,
            // A token for longer than the clock can tell is one for ever.
            token_expires: token_life.and_then(|life| now.checked_add(life)),
            limits,
            malformed: 0,
            ice: None,
            closed: false,
            config,
        }
    }

    /// The next thing to do; none until there is another input.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// There is no input for a while: gives back what room it took.
    pub(crate) fn rest(&mut self) {
        if self.effects.capacity() > EFFECTS_AT_REST {
            self.effects.shrink_to(EFFECTS_AT_REST);
        }
    }

    /// What the client understands.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// There are ICE servers to be had. Whether the client is told of them; then they are asked for
    /// already, and the answer is to come before the client's first session.
    pub(crate) fn expect_ice_servers(&mut self) -> bool {
        let told = self.dialect == Dialect::V1;
        self.ice = told.then(Box::default);
        told
    }

    /// The words for [`Effect::MatchFound`].
    pub(crate) fn match_found(&self, record: &SessionRecord, role: Role) -> Text {
        let found = ServerMessage::MatchFound {
            session_id: &record.id,
            partner_id: &record.participant(role.partner()).user,
            is_initiator: role == Role::Initiator,
            ice_servers: self.ice.as_ref().and_then(|ice| ice.servers()),
        };
        found.to_text()
    }

    /// Where the connection is seated.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.seats.iter().map(Seat::place).collect()
    }

    /// The sessions in which the connection is seated, as it knows them.
    pub(crate) fn records(&self) -> Vec<Arc<SessionRecord>> {
        self.seats.iter().map(|seat| seat.record().clone()).collect()
    }

    /// How many sessions are counted here: each is at the first of its participants who is there.
    pub(crate) fn counted_sessions(&self) -> usize {
        let counted = |seat: &&Seat| {
            let mut there = seat.record().participants.iter().filter_map(Participant::connection);
            there.next() == Some(&self.id)
        };
        self.seats.iter().filter(counted).count()
    }

    /// A session in which the connection is seated and which is over for `reason`, as it knows it;
    /// and what the partner is told if it has to be ended once more.
    pub(crate) fn ending(
        &self,
        session: &SessionId,
        opening: u64,
        reason: PartnerReason,
    ) -> Option<(Arc<SessionRecord>, PartnerReason)> {
        let seat = &self.seats[self.seat_of(session, opening)?];
        Some((seat.record().clone(), seat.reason_for_partner(reason)))
    }

    /// What this connection can put back into a store that has lost its records.
    pub(crate) fn restorable(&self, now: Timestamp) -> Vec<Arc<SessionRecord>> {
        let patience = self.config.abandon_after;
        self.seats.iter().filter_map(|seat| seat.restorable(now, patience)).collect()
    }

    /// When [`Self::on_deadline`] is due. Inputs move it later; earlier only
    /// [`Self::on_ice_servers`] and [`Self::on_write_blocked`].
    pub(crate) fn deadline(&self) -> Instant {
        let due = self.heartbeat_due.min(self.sound_due).min(self.ping_due);
        let ice = self.ice.as_ref().and_then(|ice| ice.deadline());
        [self.token_expires, self.write_due, ice].into_iter().flatten().fold(due, Instant::min)
    }

    /// The store has made this the user's connection number `epoch`. Frames count from here on.
    pub(crate) fn on_admitted(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
    }

    /// Whether the client's frames are to be read yet: before its sessions are known, everything it
    /// says of them would be refused.
    pub(crate) fn is_admitted(&self) -> bool {
        self.epoch.is_some()
    }

    /// Time has passed.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        if self.token_expires.is_some_and(|expires| now >= expires) {
            return self.close(DisconnectReason::TokenExpired);
        }
        if self.write_due.is_some_and(|due| now >= due) {
            return self.close(DisconnectReason::ReadsTooSlowly);
        }
        if now >= self.heartbeat_due {
            return self.close(DisconnectReason::HeartbeatTimeout);
        }
        if now >= self.sound_due {
            return self.close(DisconnectReason::Silent);
        }
        if now >= self.ping_due {
            self.ping_due = now + self.config.ping_interval;
            self.effects.push_back(Effect::Ping);
        }
        if self.ice.as_mut().is_some_and(|ice| ice.on_deadline(now)) {
            self.effects.push_back(Effect::AskForIceServers);
        }
    }

    /// Something waits for the transport, which takes nothing now. Its time runs from the first
    /// time on, until [`Self::on_write_progress`].
    pub(crate) fn on_write_blocked(&mut self, now: Instant) {
        self.write_due.get_or_insert(now + self.config.write_timeout);
    }

    /// The transport took something.
    pub(crate) fn on_write_progress(&mut self) {
        self.write_due = None;
    }

    /// The client's ICE servers and for how long they are good, or none where they are not to be
    /// had now. They are news for every session that the client knows.
    pub(crate) fn on_ice_servers(
        &mut self,
        answer: Option<(Arc<[IceServer]>, Option<Duration>)>,
        now: Instant,
    ) {
        let Some(ice) = &mut self.ice else {
            return;
        };
        match answer.filter(|(_, life)| life.is_none_or(|life| !life.is_zero())) {
            Some((servers, life)) => {
                for seat in &self.seats {
                    let (session_id, ice_servers) = (seat.session(), &*servers);
                    let message = ServerMessage::IceServers { session_id, ice_servers };
                    self.effects.push_back(Effect::Send(message.to_text()));
                }
                ice.on_servers(servers, life, now);
            }
            None => ice.on_failure(now),
        }
    }

    /// The client sent a frame.
    pub(crate) fn on_frame(&mut self, frame: &Frame, now: Instant) {
        debug_assert!(self.effects.is_empty(), "effects of the last input were left undone");
        self.sound_due = now + self.config.silence_timeout;
        match frame {
            Frame::Text(text) if text.len() > self.config.max_frame_bytes => {
                self.close(DisconnectReason::FrameTooLarge);
            }
            Frame::Text(text) => match ClientMessage::parse(text) {
                Ok(message) => self.on_message(message, text, now),
                Err(_) => self.on_malformed(),
            },
            Frame::Binary(_) => self.on_malformed(),
            Frame::Ping(_) | Frame::Pong(_) => self.on_control(now),
            Frame::Close(_) => self.close(DisconnectReason::Left),
        }
    }

    /// The transport failed.
    pub(crate) fn on_transport_error(&mut self, error: &TransportError) {
        self.close(error.into());
    }

    /// The connection ends for a reason that is not its own.
    pub(crate) fn on_close(&mut self, reason: DisconnectReason) {
        self.close(reason);
    }

    /// A ping or a pong: the transport has answered it.
    fn on_control(&mut self, now: Instant) {
        if self.limits.take_other(now, &self.config) == Verdict::Exhausted {
            self.close(DisconnectReason::RateLimited);
        }
    }

    fn on_malformed(&mut self) {
        self.malformed += 1;
        self.refuse(ErrorCode::Malformed, None);
        if self.malformed >= self.config.max_malformed {
            self.close(DisconnectReason::Malformed);
        }
    }

    fn on_message(&mut self, message: ClientMessage<'_>, text: &Text, now: Instant) {
        self.malformed = 0;
        let verdict = match &message {
            ClientMessage::Signal(_) => self.limits.take_signal(text.len(), now, &self.config),
            ClientMessage::Heartbeat { .. } | ClientMessage::Leave { .. } => {
                self.limits.take_other(now, &self.config)
            }
        };
        if verdict == Verdict::Exhausted {
            return self.close(DisconnectReason::RateLimited);
        }
        let allowed = verdict == Verdict::Accepted;
        match message {
            ClientMessage::Signal(signal) if allowed => match self.seat(&signal.session) {
                Some(seat) => {
                    let text = signal.relayed(text);
                    let kept = self.seats.iter().map(Seat::kept).sum();
                    let (seat, effects) = (&mut self.seats[seat], &mut self.effects);
                    seat.relay(signal.kind, text, kept, &self.config, effects);
                }
                None => self.refuse(ErrorCode::UnknownSession, Some(&signal.session)),
            },
            ClientMessage::Heartbeat { session, id } => {
                self.heartbeat_due = now + self.config.heartbeat_timeout;
                if !allowed {
                    return self.refuse(ErrorCode::RateLimited, session.as_ref());
                }
                self.effects.push_back(Effect::Heartbeat);
                if let Some(id) = &id {
                    let ack = ServerMessage::HeartbeatAck { id }.to_text();
                    self.effects.push_back(Effect::Send(ack));
                }
                if let Some(session) = session.filter(|session| self.seat(session).is_none()) {
                    self.refuse(ErrorCode::UnknownSession, Some(&session));
                }
            }
            ClientMessage::Leave { session } if allowed => match self.seat(&session) {
                Some(seat) => {
                    if self.seats[seat].leave() {
                        let record = self.seats[seat].record().clone();
                        self.effects.push_back(Effect::Leave(record));
                    }
                }
                None => self.refuse(ErrorCode::UnknownSession, Some(&session)),
            },
            ClientMessage::Signal(signal) => {
                self.refuse(ErrorCode::RateLimited, Some(&signal.session));
            }
            ClientMessage::Leave { session } => {
                self.refuse(ErrorCode::RateLimited, Some(&session));
            }
        }
    }

    /// Somebody told this connection something.
    pub(crate) fn on_notice(&mut self, notice: Notice) {
        debug_assert!(self.effects.is_empty(), "effects of the last input were left undone");
        match notice {
            Notice::Opened(record) => {
                if let Some(reason) = self.ended_for(record.opening) {
                    self.effects.push_back(Effect::EndAgain(record, reason));
                } else if self.seat(&record.id).is_none() {
                    self.effects.push_back(Effect::Attach(record));
                }
            }
            Notice::Changed(record) => self.on_record(record, false),
            Notice::Detached { session, opening, since, reason } => {
                if let Some(seat) = self.seat_of(&session, opening) {
                    self.seats[seat].partner_detached(since, reason, &mut self.effects);
                }
            }
            Notice::Ended { session, opening, reason } => {
                let mut for_partner = reason;
                if let Some(seat) = self.seat_of(&session, opening) {
                    let seat = self.seats.swap_remove(seat);
                    for_partner = seat.reason_for_partner(reason);
                    seat.end(reason, &mut self.effects);
                }
                self.remember_end(opening, for_partner);
            }
            Notice::Signal(signal) => {
                if let Some(seat) = self.seat(&signal.session) {
                    self.seats[seat].receive(signal, &mut self.effects);
                }
            }
            Notice::SignalsLost { session, pair, received, before, reason } => {
                if let Some(seat) = self.seat(&session) {
                    let (seat, effects) = (&mut self.seats[seat], &mut self.effects);
                    seat.signals_lost(pair, received, before, reason.into(), effects);
                }
            }
            Notice::Replaced => self.close(DisconnectReason::Replaced),
            // It is here, which is the answer.
            Notice::Contested { .. } => {}
            Notice::Disconnect { .. } => self.close(DisconnectReason::ByHost),
        }
    }

    /// Notices to this node may be lost.
    pub(crate) fn on_notices_lost(&mut self) {
        for seat in &mut self.seats {
            seat.notices_lost(&self.id, &mut self.effects);
        }
        self.effects.push_back(Effect::LookUp);
    }

    /// The store knows something else than this connection.
    pub(crate) fn on_doubt(&mut self) {
        self.effects.push_back(Effect::LookUp);
    }

    /// A record of one of the user's sessions; `looked_up` where it was read because notices were
    /// lost. Records come in any order and more than once.
    pub(crate) fn on_record(&mut self, record: Arc<SessionRecord>, looked_up: bool) {
        let Some(role) = record.role_of(&self.user) else {
            return;
        };
        if let Some(reason) = self.ended_for(record.opening) {
            // Whoever put it back, or was late to hear, learns of the end again.
            if record.attached_as(&self.id).is_some() {
                self.effects.push_back(Effect::EndAgain(record, reason));
            }
            return;
        }
        let mut seat = self.seat(&record.id);
        if let Some(old) = seat.filter(|i| self.seats[*i].record().opening != record.opening) {
            let old = self.seats.swap_remove(old);
            self.remember_end(old.record().opening, PartnerReason::Ended);
            old.end(PartnerReason::Ended, &mut self.effects);
            seat = None;
        }
        if seat.is_some_and(|seat| record.revision <= self.seats[seat].record().revision) {
            return;
        }
        let participant = record.participant(role);
        match (participant.attachment(), seat) {
            (Some(own), Some(seat))
                if own.connection == self.id && own.since == self.seats[seat].since() =>
            {
                self.seats[seat].update(record, looked_up, &mut self.effects);
            }
            (Some(own), seat) if own.connection == self.id => {
                let taken = Seat::take(record, role, self.dialect, &mut self.effects);
                match seat {
                    Some(seat) => self.seats[seat] = taken,
                    None => {
                        // Most users are in one session at a time.
                        self.seats.reserve_exact(1);
                        self.seats.push(taken);
                    }
                }
            }
            (Some(_), _) => {
                if self.epoch.is_some_and(|epoch| participant.epoch > epoch) {
                    self.close(DisconnectReason::Replaced);
                }
            }
            (None, Some(seat)) => {
                self.seats[seat].note(record.clone());
                self.effects.push_back(Effect::Attach(record));
            }
            (None, None) => {}
        }
    }

    /// The end of `session` that the client asked for could not be written.
    pub(crate) fn on_leave_failed(&mut self, session: &SessionId) {
        if let Some(seat) = self.seat(session) {
            self.seats[seat].stay(&mut self.effects);
        }
    }

    /// The client's signals with these numbers in `session` could not be handed on.
    pub(crate) fn on_undelivered(
        &mut self,
        session: &SessionId,
        pair: Pair,
        numbers: Range<u64>,
        code: ErrorCode,
    ) {
        if let Some(seat) = self.seat(session) {
            self.seats[seat].undelivered(pair, numbers);
        }
        self.refuse(code, Some(session));
    }

    /// Signals for the client that wait behind others were refused: tells their sender ahead of
    /// [`Self::on_refused`]. False when that has to wait.
    pub(crate) fn report_refused(
        &mut self,
        session: &SessionId,
        pair: Pair,
        numbers: &Range<u64>,
    ) -> bool {
        self.seat(session)
            .is_some_and(|seat| self.seats[seat].report_refused(pair, numbers, &mut self.effects))
    }

    /// Here, signals for the client are missing that were refused. Their sender is told unless that
    /// was `reported` to it.
    pub(crate) fn on_refused(
        &mut self,
        session: &SessionId,
        pair: Pair,
        numbers: &Range<u64>,
        reported: bool,
    ) {
        if let Some(seat) = self.seat(session) {
            self.seats[seat].skip_refused(pair, numbers, reported, &mut self.effects);
        }
    }

    fn seat(&self, session: &SessionId) -> Option<usize> {
        self.seats.iter().position(|seat| seat.session() == session)
    }

    fn seat_of(&self, session: &SessionId, opening: u64) -> Option<usize> {
        self.seat(session).filter(|seat| self.seats[*seat].record().opening == opening)
    }

    /// What to tell the partner in the session of `opening`, if it is known to have ended.
    fn ended_for(&self, opening: u64) -> Option<PartnerReason> {
        self.ended.iter().find(|(ended, _)| *ended == opening).map(|(_, reason)| *reason)
    }

    fn remember_end(&mut self, opening: u64, reason: PartnerReason) {
        if self.ended.len() == REMEMBERED_ENDS {
            self.ended.pop_front();
        }
        self.ended.push_back((opening, reason));
    }

    fn refuse(&mut self, code: ErrorCode, session: Option<&SessionId>) {
        self.effects.push_back(Effect::Send(ServerMessage::error(code, session).to_text()));
    }

    fn close(&mut self, reason: DisconnectReason) {
        if !std::mem::replace(&mut self.closed, true) {
            for seat in &self.seats {
                seat.tell_local_partner(&self.id, reason, &mut self.effects);
            }
            self.effects.push_back(Effect::Close(reason));
        }
    }
}

#[cfg(test)]
mod tests;
