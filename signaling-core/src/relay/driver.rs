//! Drives one connection: moves frames between its transport and the pure rules, and carries out
//! what these ask for. It never waits for a store, a bus or another connection.

mod end;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{Sink, Stream};
use tokio::time::{self, Instant, Sleep};

use super::{
    hooks::Newcomer,
    jobs::{Beliefs, Job},
    mailbox::{Mail, Refused},
    node::Node,
    node_queue::NodeQueue,
    registry::ConnectionHandle,
};
use crate::{
    auth::Client,
    bus::Envelope,
    connection::{Connection, Effect},
    frame::{CloseReason, Frame, TransportError},
    id::ConnectionId,
    notice::Notice,
    protocol::Dialect,
    reason::DisconnectReason,
    store::Heartbeat,
    time::Timestamp,
};
pub(super) use end::close;
use end::{Ended, Last, Life};

/// Frames read before others get their turn.
const FRAMES_PER_TURN: usize = 32;
/// Consecutive turns that end with more to read, after which deadlines are judged all the same. In
/// the default limits these are more frames than a client sends between two heartbeats.
const FULL_TURNS: u8 = 32;
/// The least time between the first look at what a client or partner has not done yet and the moment at
/// which it is given up. After this process was frozen, alarms fire some turns before the runtime learns of
/// what was sent in time.
const GRACE: Duration = Duration::from_millis(100);
/// Frames and bytes read before a connection is admitted. More are left in its transport.
const EARLY_FRAMES: usize = 32;
const EARLY_BYTES: usize = 64 * 1024;
/// Frames that a connection has room for while it waits.
const AT_REST: usize = 1;
/// Partners whose whereabouts are remembered: as many as a user commonly has.
const REMEMBERED_ROUTES: usize = 8;

pub(super) async fn serve<T, E>(node: Arc<Node>, transport: T, client: Client) -> DisconnectReason
where
    T: Stream<Item = Result<Frame, E>> + Sink<Frame, Error = E> + Send,
    E: Into<TransportError>,
{
    let _running = node.tasks.token();
    let mut transport = pin!(transport);
    let mut accepted = node.sockets.accept(&node.config);
    let ended = {
        // Borrowed, since a value that moves between waits has room for each of its places.
        let mut admitted = Driver::admit(node.clone(), client, accepted.is_some());
        match &mut admitted {
            Ok(driver) => poll_fn(|cx| driver.poll(transport.as_mut(), cx)).await,
            Err(reason) => {
                accepted = None;
                Ended {
                    reason: *reason,
                    frame: reason.close_code().map(Into::into),
                    unsent: Vec::new(),
                }
            }
        }
    };
    let (_socket, wait) = match accepted {
        Some(socket) => (socket, node.config.close_wait),
        None => node.sockets.refuse(&node.config),
    };
    let Ended { reason, frame, unsent } = ended;
    match reason {
        DisconnectReason::Lost => {}
        // The peer's close frame is answered by the transport.
        DisconnectReason::Left => close(transport, Vec::new(), None, wait).await,
        _ => close(transport, unsent, frame, wait).await,
    }
    reason
}

struct Driver {
    node: Arc<Node>,
    handle: Arc<ConnectionHandle>,
    connection: Connection,
    /// The admission, until the transport was looked at for the first time.
    admission: Option<Box<Job>>,
    /// What the client sent before it was admitted.
    early: VecDeque<Frame>,
    routes: VecDeque<(ConnectionId, Route)>,
    /// Frames for the client, until the transport takes them.
    outgoing: VecDeque<Frame>,
    unflushed: bool,
    /// Turns since the alarm was polled, each of which left more to read.
    full_turns: u8,
    alarm: Pin<Box<Sleep>>,
    grace: Option<Grace>,
    life: Life,
}

/// A client or partner is about to be late, or is.
struct Grace {
    due: std::time::Instant,
    /// When it is given up: when it is due, or [`GRACE`] after the first look if that was late.
    ends: Instant,
}

/// What has been read in one turn.
struct Turn {
    frames: usize,
    /// Whether the transport may have more.
    readable: bool,
    /// When its first frame was read: near enough for the others.
    now: Option<std::time::Instant>,
}

enum Route {
    Here(Arc<ConnectionHandle>),
    Elsewhere(Arc<NodeQueue>),
}

impl Driver {
    /// `accepted` unless the node has as many connections as it accepts.
    fn admit(node: Arc<Node>, client: Client, accepted: bool) -> Result<Self, DisconnectReason> {
        let now = Instant::now().into_std();
        let mut client = client;
        if client.dialect == Dialect::Base {
            // Whatever the transport read: it knows of no negotiation.
            client.continuing.clear();
        }
        let id = ConnectionId::new(node.id.clone(), node.registry.next_number());
        let (user, generation) = (client.identity.user.clone(), node.health.generation());
        let dialect = client.dialect;
        let handle = Arc::new(ConnectionHandle::new(
            id.clone(),
            user.clone(),
            dialect,
            &node.config,
            generation,
        ));
        let refused = |reason| {
            let text = CloseReason::default();
            node.refusals.log_connection(&user, &id, reason, &text, None);
            node.connection_refused(user.clone(), id.clone(), reason, text);
            Err(reason)
        };
        // Asked before anything knows the connection: clocks are the host's, and may panic.
        let token = node.token_times(&client.identity);
        if !accepted {
            return refused(DisconnectReason::NodeFull);
        }
        let limits = node.users.connected(&user, now);
        if !limits.take_connect(now, &node.config) {
            node.users.disconnected(&user, now);
            return refused(DisconnectReason::RateLimited);
        }
        node.registry.add(handle.clone());
        // After it was added: a shutdown or drain that begins in between closes or moves it.
        if node.is_closed_to_new() {
            node.registry.end(id.number());
            node.registry.ended(id.number());
            node.users.disconnected(&user, now);
            return refused(DisconnectReason::ShuttingDown);
        }
        let config = node.config.clone();
        let mut connection = Connection::new(id.clone(), user, dialect, config, limits, token, now);
        connection.continue_negotiations(client.continuing.clone());
        let ice_servers = node.ice_servers.is_some() && connection.expect_ice_servers();
        tracing::debug!(connection = %handle.id, user = %handle.user, ?dialect, "connected");
        let admission = Job::Admit { newcomer: Newcomer::new(id, client), ice_servers };
        Ok(Self {
            admission: Some(Box::new(admission)),
            early: VecDeque::new(),
            alarm: Box::pin(time::sleep_until(alarm_of(&connection))),
            routes: VecDeque::new(),
            outgoing: VecDeque::with_capacity(AT_REST),
            unflushed: false,
            full_turns: 0,
            grace: None,
            life: Life::Open,
            connection,
            handle,
            node,
        })
    }

    /// One turn: writes what waits, reads some frames, and judges deadlines if nothing is left to read.
    fn poll<T, E>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Ended>
    where
        T: Stream<Item = Result<Frame, E>> + Sink<Frame, Error = E>,
        E: Into<TransportError>,
    {
        if let Some(ended) = self.submit_end() {
            return Poll::Ready(ended);
        }
        ready!(self.poll_pacer(cx));
        self.handle.mailbox.register(cx);
        let mut turn = Turn { frames: 0, readable: true, now: None };
        loop {
            self.write(transport.as_mut(), cx);
            if self.has_ended() {
                // The partner was woken by the news, and has its turn before the rest is done.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if turn.frames >= FRAMES_PER_TURN {
                if self.is_alarm_overdue() && self.poll_alarm(cx) {
                    continue;
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.connection.is_admitted() && self.begin_admission(transport.as_mut(), cx) {
                ready!(self.poll_pacer(cx));
                continue;
            }
            let has_read = self.read(&mut turn, transport.as_mut(), cx);
            ready!(self.poll_pacer(cx));
            // Deadlines are for what has not come. After a time in which this process was frozen or
            // starved, heartbeats wait to be read that were sent in time. If there is always more to
            // read, deadlines are judged after some turns (above).
            if !has_read && !self.poll_alarm(cx) && self.handle.mailbox.end_turn() {
                break;
            }
        }
        self.rest();
        Poll::Pending
    }

    /// Carries out what is asked for, and writes what waits for the client as far as the transport takes it.
    fn write<T, E>(&mut self, transport: Pin<&mut T>, cx: &mut Context<'_>)
    where
        T: Sink<Frame, Error = E>,
        E: Into<TransportError>,
    {
        if let Some(reason) = self.handle.mailbox.begin_turn() {
            self.connection.on_close(reason);
        }
        let _ = self.carry_out();
        match self.poll_write(transport, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.connection.on_transport_error(&error.into());
                let _ = self.carry_out();
            }
            Poll::Pending => self.on_write_blocked(),
        }
    }

    /// Notes a turn that ends with more to read; true once there were so many of them in a row that
    /// deadlines are judged all the same.
    fn is_alarm_overdue(&mut self) -> bool {
        self.full_turns += 1;
        self.full_turns == FULL_TURNS
    }

    /// Before the connection is admitted: reads what came early, then starts the admission, once. Returns
    /// whether something was done.
    fn begin_admission<T, E>(&mut self, transport: Pin<&mut T>, cx: &mut Context<'_>) -> bool
    where
        T: Stream<Item = Result<Frame, E>>,
        E: Into<TransportError>,
    {
        // First, so that a client that is gone already is not admitted.
        if self.read_early(transport, cx) {
            return true;
        }
        let admission = self.admission.take();
        admission.map(|admission| self.node.run_job(&self.handle, *admission)).is_some()
    }

    /// Reads frames until none is left, the turn is over or the connection ends. Returns whether anything was
    /// read.
    fn read<T, E>(
        &mut self,
        turn: &mut Turn,
        mut transport: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> bool
    where
        T: Stream<Item = Result<Frame, E>>,
        E: Into<TransportError>,
    {
        let before = turn.frames;
        while turn.readable && self.connection.is_admitted() && turn.frames < FRAMES_PER_TURN {
            let next = match self.early.pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => transport.as_mut().poll_next(cx),
            };
            let last = match next {
                Poll::Pending => {
                    // It wakes this task when there is more.
                    turn.readable = false;
                    break;
                }
                Poll::Ready(Some(Ok(Frame::Close(close)))) => Last::Close(close),
                Poll::Ready(Some(Ok(frame))) => {
                    turn.frames += 1;
                    let now = turn.now.get_or_insert_with(|| Instant::now().into_std());
                    if self.on_frame(&frame, *now).is_break() {
                        break;
                    }
                    continue;
                }
                Poll::Ready(Some(Err(error))) => Last::Error(error.into()),
                Poll::Ready(None) => Last::Nothing,
            };
            self.pace_end(last);
            return true;
        }
        turn.frames > before
    }

    /// Whether a deadline was due.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> bool {
        self.full_turns = 0;
        let mut was_due = false;
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = self.connection.peers_due();
            if Instant::from(due) <= now + GRACE {
                let grace = self.grace.take().filter(|grace| grace.due == due);
                let ends = (now + GRACE).max(due.into());
                let grace = grace.unwrap_or(Grace { due, ends });
                if now < grace.ends {
                    self.alarm.as_mut().reset(grace.ends);
                    self.grace = Some(grace);
                    continue;
                }
            }
            self.grace = None;
            was_due = true;
            self.connection.on_deadline(now.into_std());
            self.alarm.as_mut().reset(alarm_of(&self.connection));
            if self.carry_out().is_break() {
                break;
            }
        }
        was_due
    }

    /// Reads what the client sends before it is admitted, so that its end is noticed: a newcomer that
    /// is gone must not replace the connection that its user has made since. Returns whether it ended.
    fn read_early<T, E>(&mut self, mut transport: Pin<&mut T>, cx: &mut Context<'_>) -> bool
    where
        T: Stream<Item = Result<Frame, E>>,
        E: Into<TransportError>,
    {
        let size = |frame: &Frame| match frame {
            Frame::Text(text) => text.len(),
            Frame::Binary(bytes) | Frame::Ping(bytes) | Frame::Pong(bytes) => bytes.len(),
            Frame::Close(_) => 0,
        };
        let mut bytes = self.early.iter().map(size).sum::<usize>();
        while self.early.len() < EARLY_FRAMES && bytes < EARLY_BYTES {
            let last = match transport.as_mut().poll_next(cx) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(Frame::Close(close)))) => Last::Close(close),
                Poll::Ready(Some(Ok(frame))) => {
                    bytes += size(&frame);
                    self.early.push_back(frame);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => Last::Error(error.into()),
                Poll::Ready(None) => Last::Nothing,
            };
            self.pace_end(last);
            return true;
        }
        false
    }

    /// A connection that waits, as most do most of the time, keeps room for one thing at a time.
    fn rest(&mut self) {
        self.connection.rest();
        // This runs after each message, and there is rarely anything to free.
        if self.outgoing.capacity() > AT_REST {
            self.outgoing.shrink_to(AT_REST);
        }
        if self.early.capacity() > 0 {
            self.early.shrink_to_fit();
        }
    }

    fn on_frame(&mut self, frame: &Frame, now: std::time::Instant) -> ControlFlow<()> {
        self.connection.on_frame(frame, now);
        self.carry_out_to_client(Self::queue)
    }

    /// Writes what waits for the client, flushing once for all of it.
    fn poll_write<T, E>(
        &mut self,
        mut transport: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), E>>
    where
        T: Sink<Frame, Error = E>,
    {
        loop {
            if self.outgoing.is_empty() {
                match self.handle.mailbox.pop() {
                    Some(mail) => {
                        self.on_mail(mail);
                        if self.carry_out().is_break() {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    None => break,
                }
                continue;
            }
            ready!(transport.as_mut().poll_ready(cx))?;
            self.connection.on_write_progress();
            if let Some(frame) = self.outgoing.pop_front() {
                transport.as_mut().start_send(frame)?;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            ready!(transport.poll_flush(cx))?;
            self.connection.on_write_progress();
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The client takes nothing now. The senders of signals that were refused meanwhile are told at
    /// once, and not when it is their turn in the queue.
    fn on_write_blocked(&mut self) {
        let Self { handle, connection, .. } = self;
        handle.mailbox.blocked(|refused| {
            let Refused { session, negotiation, numbers, numbered, .. } = refused;
            connection.report_refused(session, *negotiation, numbers, *numbered)
        });
        let _ = self.carry_out();
        self.connection.on_write_blocked(Instant::now().into_std());
        self.set_alarm_earlier();
    }

    fn on_mail(&mut self, mail: Mail) {
        let changes_sessions =
            !matches!(mail, Mail::Send(_) | Mail::Notice(Notice::Signal(_)) | Mail::Refused(_));
        let now = || Instant::now().into_std();
        match mail {
            Mail::Send(text) => self.outgoing.push_back(Frame::Text(text)),
            Mail::Notice(notice) => {
                if let Notice::Ended { session, first_opening, .. } = &notice {
                    self.handle.jobs.forget(session, *first_opening);
                }
                if let Notice::Disconnect { text } = &notice {
                    let _ = self.handle.goodbye.set(text.clone());
                }
                self.connection.on_notice(notice, now());
            }
            Mail::Admitted { epoch, records } => {
                self.connection.on_admitted(epoch, records, now());
            }
            Mail::Record { record, looked_up } => {
                self.connection.on_attached(record, looked_up, now())
            }
            Mail::LeaveFailed(session) => self.connection.on_leave_failed(&session),
            Mail::IceServers(answer) => {
                let life = |at: Timestamp| at.since(self.node.clock.now());
                let answer = answer.map(|told| (told.servers, told.expires_at.map(life)));
                self.connection.on_ice_servers(answer, now());
            }
            Mail::Move { after, close_idle } => self.connection.on_move(after, close_idle),
            Mail::Refreshed(refresh) => self.connection.on_refresh(refresh, now()),
            Mail::Undelivered { session, negotiation, numbers, code } => {
                self.connection.on_undelivered(&session, negotiation, numbers, code, now());
            }
            Mail::Refused(Refused { session, negotiation, numbers, numbered, reported }) => {
                let connection = &mut self.connection;
                connection.on_refused(&session, negotiation, &numbers, numbered, reported);
            }
            Mail::NoticesLost => self.connection.on_notices_lost(),
            Mail::Doubt => self.connection.on_doubt(),
        }
        if changes_sessions {
            let sessions = self.connection.counted_sessions();
            self.node.registry.count(&self.handle, sessions);
            self.set_alarm_earlier();
        }
    }

    /// Some inputs move the deadline earlier.
    fn set_alarm_earlier(&mut self) {
        let alarm = alarm_of(&self.connection);
        if self.grace.is_none() && alarm < self.alarm.deadline() {
            self.alarm.as_mut().reset(alarm);
        }
    }

    /// Carries out what the last input asks for; what goes to the client goes out next.
    fn carry_out(&mut self) -> ControlFlow<()> {
        self.carry_out_to_client(|driver, frame| driver.outgoing.push_back(frame))
    }

    /// Behind what waits for the client already.
    fn queue(&mut self, frame: Frame) {
        match frame {
            Frame::Text(text) => self.handle.mailbox.push(Mail::Send(text)),
            other => self.outgoing.push_back(other),
        }
    }

    fn carry_out_to_client(&mut self, to_client: fn(&mut Self, Frame)) -> ControlFlow<()> {
        while let Some(effect) = self.connection.next_effect() {
            match effect {
                Effect::Send(text) => to_client(self, Frame::Text(text)),
                Effect::MatchFound(record, role) => {
                    let found = self.connection.match_found(&record, role);
                    to_client(self, Frame::Text(found));
                }
                Effect::SetAlarm => self.set_alarm_earlier(),
                Effect::AskForIceServers => self.node.renew_ice_servers(&self.handle),
                Effect::Refresh(token) => self.node.refresh(&self.handle, token),
                Effect::Ping => to_client(self, Frame::Ping(Bytes::new())),
                Effect::Notify { to, notice } => self.notify(to, notice),
                Effect::Heartbeat => self.node.heartbeats.add(Heartbeat {
                    user: self.handle.user.clone(),
                    connection: self.handle.id.clone(),
                    at: self.node.now(),
                    places: self.connection.places(),
                }),
                Effect::Attach { record, continuing } => {
                    self.run_job(Job::Attach { record, continuing });
                }
                Effect::Renew(record) => self.run_job(Job::Renew(record)),
                Effect::Leave(record) => self.run_job(Job::Leave(record)),
                Effect::EndAgain(record) => self.run_job(Job::EndAgain(record)),
                Effect::LookUp => {
                    let beliefs = Beliefs {
                        records: self.connection.records(),
                        continuing: self.connection.negotiations_to_continue(),
                        issued_at: self.connection.issued_at(),
                    };
                    self.run_job(Job::LookUp(beliefs));
                }
                Effect::ReplaceOlder => {
                    let older = self.handle.jobs.state().replaced.take();
                    if let Some(older) = older {
                        self.notify(*older, Notice::Replaced);
                    }
                }
                Effect::Close(reason) => {
                    self.end(reason);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn run_job(&self, job: Job) {
        self.node.run_job(&self.handle, job);
    }

    fn notify(&mut self, to: ConnectionId, notice: Notice) {
        let known = self.routes.iter().position(|(id, _)| *id == to);
        let route = match known {
            Some(at) => &self.routes[at].1,
            None => {
                let route = if *to.node() == self.node.id {
                    let Some(handle) = self.node.registry.get(to.number()) else {
                        return self.node.deliver(&to, notice);
                    };
                    Route::Here(handle)
                } else {
                    Route::Elsewhere(self.node.node_queues.queue(to.node()))
                };
                if self.routes.len() == REMEMBERED_ROUTES {
                    self.routes.pop_front();
                }
                self.routes.push_back((to.clone(), route));
                &self.routes[self.routes.len() - 1].1
            }
        };
        match route {
            Route::Here(handle) => self.node.deliver_to(handle, notice),
            Route::Elsewhere(queue) => {
                queue.send(Envelope::notice(&to, notice), Some(&self.handle));
            }
        }
    }
}

/// When to look at the deadlines of `connection`.
fn alarm_of(connection: &Connection) -> Instant {
    let first_look = Instant::from(connection.peers_due()) - GRACE;
    first_look.min(connection.deadline().into())
}
