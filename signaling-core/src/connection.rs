//! The rules of one connection, pure: what its client says, what it is told, and when it is given
//! up.
//!
//! Inputs go in with the moment they happened; effects come out of [`Connection::next_effect`] and
//! are to be carried out in that order, all of them before the next input. Between inputs,
//! [`Connection::deadline`] says when [`Connection::on_deadline`] is due.

mod effect;
mod ice;
mod rate;
mod recent_ends;
mod seat;
mod token;

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
    notice::Notice,
    protocol::{
        ClientMessage, Continue, Dialect, ErrorCode, IceServer, NegotiationId, ServerMessage,
        Signal,
    },
    reason::{DisconnectReason, PartnerReason},
    session::{Participant, Place, Role, SessionRecord},
    time::Timestamp,
};

pub(crate) use effect::Effect;
use ice::Ice;
pub(crate) use rate::UserLimits;
use rate::Verdict;
pub(crate) use recent_ends::RecentEnds;
use seat::Seat;
use token::Token;

/// How long sessions that the store has lost take to be opened again at most, in the ordinary case.
const REOPENING: Duration = Duration::from_secs(5);
/// Effects that there is room for while nothing happens.
const EFFECTS_AT_REST: usize = 2;

#[derive(Debug)]
pub(crate) struct Connection {
    id: ConnectionId,
    user: UserId,
    dialect: Dialect,
    config: Arc<Config>,
    life: Life,
    seats: Vec<Seat>,
    /// What the client wants to continue; none for most, so that it takes little room.
    continuing: Option<Box<Continuing>>,
    ended: RecentEnds,
    effects: VecDeque<Effect>,
    heartbeat_due: Instant,
    sound_due: Instant,
    ping_due: Instant,
    /// When the transport has taken nothing for too long; none while nothing waits for it.
    write_due: Option<Instant>,
    token: Token,
    limits: Arc<UserLimits>,
    malformed: u32,
    /// None where the client is told of no ICE servers.
    ice: Option<Box<Ice>>,
}

/// What the client of a connection wants to continue.
#[derive(Debug)]
struct Continuing {
    /// The negotiations, until the connection is attached to their sessions.
    named: Vec<Continue>,
    admitted_at: Option<Instant>,
}

/// When a token was issued and when it expires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TokenTimes {
    /// None if the token does not say it.
    pub(crate) issued_at: Option<Timestamp>,
    /// By the host's clock, and the time left until then; none for a token that does not expire.
    pub(crate) expires: Option<(Timestamp, Duration)>,
}

/// Result of validating the token of a `refresh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// A token of the same user.
    Valid(TokenTimes),
    Invalid,
    /// It could not be validated now.
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// The store has not made it its user's connection yet.
    Connecting,
    /// It is its user's connection number `epoch`.
    Admitted { epoch: u64 },
    /// [`Effect::Close`] was asked for.
    Closed,
}

impl Connection {
    /// A connection that was accepted at `now`, with a token of these times, of a user with these `limits`.
    pub(crate) fn new(
        id: ConnectionId,
        user: UserId,
        dialect: Dialect,
        config: Arc<Config>,
        limits: Arc<UserLimits>,
        token: TokenTimes,
        now: Instant,
    ) -> Self {
        Self {
            id,
            user,
            dialect,
            life: Life::Connecting,
            seats: Vec::new(),
            continuing: None,
            ended: RecentEnds::default(),
            effects: VecDeque::with_capacity(EFFECTS_AT_REST),
            heartbeat_due: now + config.heartbeat_timeout,
            sound_due: now + config.silence_timeout,
            ping_due: now + config.ping_interval,
            write_due: None,
            token: Token::new(dialect, token, now),
            limits,
            malformed: 0,
            ice: None,
            config,
        }
    }

    /// Sets the negotiations that the client named in its request.
    pub(crate) fn continue_negotiations(&mut self, continuing: Vec<Continue>) {
        let named = !continuing.is_empty();
        self.continuing =
            named.then(|| Box::new(Continuing { named: continuing, admitted_at: None }));
    }

    /// When the client's token was issued; 0 if that is not known.
    pub(crate) fn issued_at(&self) -> Timestamp {
        self.token.issued_at()
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
            negotiation: match self.dialect {
                Dialect::Base => None,
                Dialect::V1 => Some(record.negotiation.into()),
            },
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

    /// The negotiations that the client can continue if this connection attaches again, or for the first
    /// time, by their sessions.
    pub(crate) fn negotiations_to_continue(&self) -> Vec<(SessionId, NegotiationId)> {
        let seated = self.seats.iter().filter_map(|seat| {
            let negotiation = seat.to_continue()?;
            Some((seat.session().clone(), negotiation.into()))
        });
        let named = self.named().iter().map(|one| (one.session.clone(), one.negotiation));
        seated.chain(named).collect()
    }

    /// How many sessions are counted here: each is at the first of its participants who is there.
    pub(crate) fn counted_sessions(&self) -> usize {
        let counted = |seat: &&Seat| {
            let mut there = seat.record().participants.iter().filter_map(Participant::connection);
            there.next() == Some(&self.id)
        };
        self.seats.iter().filter(counted).count()
    }

    /// When [`Self::on_deadline`] is due. Inputs move it later; earlier only [`Self::on_admitted`],
    /// [`Self::on_attached`], [`Self::on_notice`], [`Self::on_undelivered`], [`Self::on_ice_servers`] and
    /// [`Self::on_write_blocked`], and what asks for [`Effect::SetAlarm`].
    pub(crate) fn deadline(&self) -> Instant {
        let due = self.peers_due().min(self.ping_due);
        let ice = self.ice.as_ref().and_then(|ice| ice.deadline());
        let resends = self.seats.iter().filter_map(Seat::resend_due);
        let others = [self.token.deadline(), ice].into_iter().flatten();
        others.chain(resends).fold(due, Instant::min)
    }

    /// The first of these deadlines for something that the client or a partner has to do.
    pub(crate) fn peers_due(&self) -> Instant {
        let partners = self.seats.iter().filter_map(Seat::partner_due);
        let due = self.heartbeat_due.min(self.sound_due);
        self.write_due.into_iter().chain(partners).fold(due, Instant::min)
    }

    /// The store has made this the user's connection number `epoch`, and attached it to the sessions of
    /// `records`. Frames count from here on, and only now an older connection that it replaces is told: a
    /// client that continues here is never absent.
    pub(crate) fn on_admitted(
        &mut self,
        epoch: u64,
        records: Vec<Arc<SessionRecord>>,
        now: Instant,
    ) {
        if self.life == Life::Connecting {
            self.life = Life::Admitted { epoch };
        }
        if let Some(continuing) = &mut self.continuing {
            continuing.admitted_at = Some(now);
        }
        for record in records {
            self.on_attached(record, false, now);
        }
        self.effects.push_back(Effect::ReplaceOlder);
    }

    /// Whether the client's frames are to be read yet: before its sessions are known, everything it
    /// says of them would be refused.
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self.life, Life::Admitted { .. })
    }

    /// Time has passed.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        if self.token.has_expired(now) {
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
        for seat in &mut self.seats {
            seat.on_deadline(now, &mut self.effects);
        }
        if let Some(message) = self.token.on_deadline(now) {
            self.effects.push_back(Effect::Send(message.to_text()));
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

    /// The client, which speaks [`Dialect::V1`], is to open a connection elsewhere after this time. If it is in no
    /// session and that is asked for, its connection is closed instead.
    pub(crate) fn on_move(&mut self, after: Duration, close_idle: bool) {
        if close_idle && self.seats.is_empty() {
            return self.close(DisconnectReason::ShuttingDown);
        }
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.effects.push_back(Effect::Send(ServerMessage::Move { after_ms }.to_text()));
    }

    /// The token of a `refresh` was validated.
    pub(crate) fn on_refresh(&mut self, refresh: Refresh, now: Instant) {
        let message = self.token.on_refresh(refresh, now);
        self.effects.push_back(Effect::Send(message.to_text()));
    }

    /// The client sent a frame.
    pub(crate) fn on_frame(&mut self, frame: &Frame, now: Instant) {
        debug_assert!(self.effects.is_empty(), "effects of the last input were left undone");
        self.sound_due = now + self.config.silence_timeout;
        match frame {
            Frame::Text(text) if text.len() > self.config.max_frame_bytes => {
                self.close(DisconnectReason::FrameTooLarge);
            }
            Frame::Text(text) => match ClientMessage::parse(text, self.dialect) {
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
            ClientMessage::Heartbeat { .. }
            | ClientMessage::Leave { .. }
            | ClientMessage::Refresh { .. } => self.limits.take_other(now, &self.config),
        };
        if verdict == Verdict::Exhausted {
            return self.close(DisconnectReason::RateLimited);
        }
        let allowed = verdict == Verdict::Accepted;
        match message {
            ClientMessage::Signal(signal) => self.on_signal(&signal, text, allowed, now),
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
                let is_unknown = |session: &SessionId| {
                    self.seat(session).is_none() && !self.may_return(session, now)
                };
                if let Some(session) = session.filter(is_unknown) {
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
            ClientMessage::Leave { session } => {
                self.refuse(ErrorCode::RateLimited, Some(&session));
            }
            ClientMessage::Refresh { token } if allowed && self.token.begin_refresh() => {
                self.effects.push_back(Effect::Refresh(token.into_owned()));
            }
            ClientMessage::Refresh { .. } => self.refuse(ErrorCode::RateLimited, None),
        }
    }

    /// Whether the client wants to continue in `session` and may be about to: the store may have lost the
    /// session, and the partner's connection opens it again.
    fn may_return(&self, session: &SessionId, now: Instant) -> bool {
        let Some(Continuing { named, admitted_at: Some(at) }) = self.continuing.as_deref() else {
            return false;
        };
        now < *at + REOPENING && named.iter().any(|one| one.session == *session)
    }

    fn named(&self) -> &[Continue] {
        self.continuing.as_deref().map(|continuing| &*continuing.named).unwrap_or_default()
    }

    fn on_signal(&mut self, signal: &Signal<'_>, text: &Text, allowed: bool, now: Instant) {
        let Some(seat) = self.seat(&signal.session) else {
            let code = if allowed { ErrorCode::UnknownSession } else { ErrorCode::RateLimited };
            return self.refuse(code, Some(&signal.session));
        };
        if !allowed {
            if let Some(sequence) = signal.sequence {
                self.seats[seat].refused(sequence, now);
                self.effects.push_back(Effect::SetAlarm);
            }
            return self.refuse(ErrorCode::RateLimited, Some(&signal.session));
        }
        let kept = self.seats.iter().map(Seat::kept).sum();
        let (seat, effects) = (&mut self.seats[seat], &mut self.effects);
        let text = signal.relayed(text);
        seat.relay(signal.kind, text, signal.sequence, kept, &self.config, effects);
    }

    /// Somebody told this connection something.
    pub(crate) fn on_notice(&mut self, notice: Notice, now: Instant) {
        debug_assert!(self.effects.is_empty(), "effects of the last input were left undone");
        match notice {
            Notice::Opened(record) | Notice::Changed(record) if self.is_rival(&record) => {}
            Notice::Opened(record) => {
                if self.ended.contains(record.first_opening) {
                    self.effects.push_back(Effect::EndAgain(record));
                } else if self.seat(&record.id).is_none() {
                    self.attach(record);
                } else {
                    // It was opened again after a loss, or by the host under the id of one that has ended.
                    self.on_record(record.clone(), false, now);
                    if self.seat(&record.id).is_none() {
                        self.attach(record);
                    }
                }
            }
            Notice::Changed(record) => self.on_record(record, false, now),
            Notice::Detached { session, connection, reason } => {
                if let Some(seat) = self.seat(&session) {
                    self.seats[seat].partner_detached(&connection, reason, &mut self.effects);
                }
            }
            Notice::Ended { session, first_opening, reason } => {
                if let Some(seat) = self.seat_of(&session, first_opening) {
                    let seat = self.seats.swap_remove(seat);
                    if seat.record().opening != first_opening {
                        // What has ended may be an earlier opening than the one that this connection
                        // has attached to.
                        self.effects.push_back(Effect::EndAgain(seat.record().clone()));
                    }
                    seat.end(reason, &mut self.effects);
                }
                self.ended.add(first_opening);
            }
            Notice::Signal(signal) => {
                if let Some(seat) = self.seat(&signal.session) {
                    self.seats[seat].receive(signal, &mut self.effects);
                }
            }
            Notice::Received { session, negotiation, seq, before, reason, answer } => {
                if let Some(seat) = self.seat(&session) {
                    let (seat, effects) = (&mut self.seats[seat], &mut self.effects);
                    seat.on_received(negotiation, seq, before, reason, answer, effects);
                }
            }
            Notice::Replaced => self.close(DisconnectReason::Replaced),
            Notice::Contested { .. } => self.on_doubt(),
            Notice::Revoked { issued_before } => {
                if self.issued_at() < issued_before {
                    self.close(DisconnectReason::Revoked);
                }
            }
            Notice::Disconnect { .. } => self.close(DisconnectReason::ByHost),
        }
    }

    /// Whether `record` is of another opening than the one known here, and both follow the same one. The
    /// store has one of the two. Which, it says itself: each loss has the connection look up.
    fn is_rival(&self, record: &SessionRecord) -> bool {
        let seat = self.seat_of(&record.id, record.first_opening);
        seat.map(|seat| self.seats[seat].record()).is_some_and(|known| {
            known.opening != record.opening && known.reopened == record.reopened
        })
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

    /// The store has attached this connection, and this is the record then, or was attached before and is
    /// asked again because notices were lost (`looked_up`).
    pub(crate) fn on_attached(
        &mut self,
        record: Arc<SessionRecord>,
        looked_up: bool,
        now: Instant,
    ) {
        // The partner learns of it before it gets any signal.
        if let Some(role) = record.attached_as(&self.id)
            && let Some(partner) = record.participant(role.partner()).connection()
            && !self.ended.contains(record.first_opening)
        {
            let (to, notice) = (partner.clone(), Notice::Changed(record.clone()));
            self.effects.push_back(Effect::Notify { to, notice });
        }
        self.on_record(record, looked_up, now);
    }

    /// A record of one of the user's sessions; `looked_up` if it was read because notices were lost.
    /// Records come in any order and more than once.
    fn on_record(&mut self, record: Arc<SessionRecord>, looked_up: bool, now: Instant) {
        let Some(role) = record.role_of(&self.user) else {
            return;
        };
        if self.ended.contains(record.first_opening) {
            // Opened again, or attached to, before the end was known.
            if record.attached_as(&self.id).is_some() {
                self.effects.push_back(Effect::EndAgain(record));
            }
            return;
        }
        let mut seat = self.seat(&record.id);
        let is_another = |seat: &Seat| seat.record().first_opening != record.first_opening;
        if let Some(old) = seat.filter(|seat| is_another(&self.seats[*seat])) {
            let old = self.seats.swap_remove(old);
            self.ended.add(old.record().first_opening);
            old.end(PartnerReason::Ended, &mut self.effects);
            seat = None;
        }
        if seat.is_some_and(|seat| self.seats[seat].is_outdated(&record)) {
            return;
        }
        let participant = record.participant(role);
        match (participant.connection(), seat) {
            (Some(own), Some(seat)) if *own == self.id => {
                // As long as no node is taken for dead after an outage.
                let due = now + self.config.node_lease * 2 / 3;
                self.seats[seat].update(record, looked_up, due, &mut self.effects);
            }
            (Some(own), None) if *own == self.id => self.take_seat(record, role),
            (Some(_), _) => {
                if let Life::Admitted { epoch } = self.life
                    && participant.epoch > epoch
                {
                    self.close(DisconnectReason::Replaced);
                }
            }
            (None, Some(seat)) if record.opening == self.seats[seat].record().opening => {
                self.seats[seat].note(record.clone());
                self.attach(record);
            }
            // It was opened again after a loss.
            (None, Some(_)) => self.effects.push_back(Effect::LookUp),
            (None, None) => {}
        }
    }

    fn take_seat(&mut self, record: Arc<SessionRecord>, role: Role) {
        let named = self.continuing.as_deref_mut().and_then(|Continuing { named, .. }| {
            let at = named.iter().position(|one| one.session == record.id)?;
            Some(named.swap_remove(at))
        });
        let participant = record.participant(role);
        let continued = named.filter(|named| {
            let negotiation = Some(named.negotiation.number());
            participant.client.is_some() && participant.negotiation == negotiation
        });
        let continued = continued.map(|named| named.seq);
        let taken = Seat::take(record, role, self.dialect, continued, &mut self.effects);
        // Most users are in one session at a time.
        self.seats.reserve_exact(1);
        self.seats.push(taken);
    }

    /// Has this connection attached to the session of `record`, to continue the client's negotiation there
    /// if it can.
    fn attach(&mut self, record: Arc<SessionRecord>) {
        let continuing = match self.seat(&record.id) {
            Some(seat) => self.seats[seat].to_continue().map(NegotiationId::from),
            None => {
                let named = self.named().iter().find(|one| one.session == record.id);
                named.map(|one| one.negotiation)
            }
        };
        self.effects.push_back(Effect::Attach { record, continuing });
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
        negotiation: u64,
        numbers: Range<u64>,
        code: ErrorCode,
        now: Instant,
    ) {
        match self.seat(session) {
            Some(seat) => {
                let (seat, effects) = (&mut self.seats[seat], &mut self.effects);
                seat.undelivered(negotiation, numbers, code, now, effects);
            }
            None => self.refuse(code, Some(session)),
        }
    }

    /// Signals for the client that wait behind others were refused: tells their sender ahead of
    /// [`Self::on_refused`]. False when that has to wait.
    pub(crate) fn report_refused(
        &mut self,
        session: &SessionId,
        negotiation: u64,
        numbers: &Range<u64>,
        numbered: bool,
    ) -> bool {
        self.seat(session).is_some_and(|seat| {
            self.seats[seat].report_refused(negotiation, numbers, numbered, &mut self.effects)
        })
    }

    /// Here, signals for the client are missing that were refused. Their sender is told unless that
    /// was `reported` to it.
    pub(crate) fn on_refused(
        &mut self,
        session: &SessionId,
        negotiation: u64,
        numbers: &Range<u64>,
        numbered: bool,
        reported: bool,
    ) {
        if let Some(seat) = self.seat(session) {
            let (seat, effects) = (&mut self.seats[seat], &mut self.effects);
            seat.skip_refused(negotiation, numbers, numbered, reported, effects);
        }
    }

    fn seat(&self, session: &SessionId) -> Option<usize> {
        self.seats.iter().position(|seat| seat.session() == session)
    }

    fn seat_of(&self, session: &SessionId, first_opening: u64) -> Option<usize> {
        self.seat(session).filter(|seat| self.seats[*seat].record().first_opening == first_opening)
    }

    fn refuse(&mut self, code: ErrorCode, session: Option<&SessionId>) {
        self.effects.push_back(Effect::Send(ServerMessage::error(code, session).to_text()));
    }

    fn close(&mut self, reason: DisconnectReason) {
        if std::mem::replace(&mut self.life, Life::Closed) != Life::Closed {
            for seat in &self.seats {
                seat.tell_local_partner(&self.id, reason, &mut self.effects);
            }
            self.effects.push_back(Effect::Close(reason));
        }
    }
}

#[cfg(test)]
mod tests;
