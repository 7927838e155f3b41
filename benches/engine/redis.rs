//! What calls cost a real Redis and the nodes that use it; two nodes in this process, clients in
//! memory.

use std::{cell::RefCell, fmt::Write, process::id};

use futures::future::try_join_all;
use signaling_core::{
    Relay,
    auth::Identity,
    frame::{Frame, Text},
    id::{SessionId, UserId},
    relay::NewSession,
    testing::guest::Nobody,
};
use signaling_redis::{Redis, Settings, testing::Server};

use crate::{
    Done,
    line::{Client, line},
    process, texts,
};

/// Calls at the same time.
const AT_ONCE: usize = 16;
/// Candidates each way.
const CANDIDATES: usize = 10;

/// Sessions whose memory is measured.
const SESSIONS: usize = 2000;

/// What one call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Matched, connected, and left.
    OneNode,
    /// The same between users on two nodes.
    TwoNodes,
    /// With offer, answer and candidates.
    Signals,
}

struct Nodes {
    server: Server,
    relays: [Relay; 2],
    next: RefCell<usize>,
}

/// So many calls of each kind, as a table in Markdown.
pub(crate) async fn run(calls: usize) -> Done<String> {
    let nodes = Nodes::start().await?;
    let mut table = String::from(
        "| a call | CPU of Redis | bytes to Redis | bytes from Redis | CPU of the nodes |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (call, name) in [
        (Call::OneNode, "both on one node, without signals"),
        (Call::TwoNodes, "on two nodes, without signals"),
        (Call::Signals, "on two nodes, offer, answer and 20 candidates"),
    ] {
        nodes.make(call, calls / 10).await?;
        let (before, own) = (nodes.used()?, process::cpu(id())?);
        nodes.make(call, calls).await?;
        let (after, own) = (nodes.used()?, process::cpu(id())? - own);
        let [seconds, read, written] =
            [0, 1, 2].map(|nth| (after[nth] - before[nth]) / calls as f64);
        let (redis, own) = (seconds * 1e6, own * 1e6 / calls as f64);
        writeln!(table, "| {name} | {redis:.0} µs | {read:.0} | {written:.0} | {own:.0} µs |")?;
    }
    // One that has not seen these calls: what is left of them expires some time later.
    let bytes = Nodes::start().await?.memory_of_user().await?;
    writeln!(
        table,
        "\nMemory of Redis for a user who is connected, in a session: {bytes:.0} bytes"
    )?;
    Ok(table)
}

async fn relay(server: &Server) -> Done<Relay> {
    let redis = Redis::connect(Settings::url(&server.url())?).await?;
    Ok(Relay::builder(Nobody).store(redis.store()).bus(redis.bus()).start().await?)
}

impl Nodes {
    async fn start() -> Done<Self> {
        let server = Server::start();
        let relays = [relay(&server).await?, relay(&server).await?];
        Ok(Self { server, relays, next: RefCell::new(0) })
    }

    /// What Redis says of itself.
    fn info<const N: usize>(&self, names: [&str; N]) -> Done<[f64; N]> {
        let (info, mut values) = (self.server.cli(&["info", "all"]), [0.0; N]);
        for (name, value) in names.iter().zip(&mut values) {
            let said = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            *value = said.ok_or_else(|| format!("no {name}"))?.trim().parse()?;
        }
        Ok(values)
    }

    /// Seconds of CPU that Redis has used, and bytes that it has read and written.
    fn used(&self) -> Done<[f64; 3]> {
        let names =
            ["used_cpu_sys", "used_cpu_user", "total_net_input_bytes", "total_net_output_bytes"];
        let [system, user, read, written] = self.info(names)?;
        Ok([system + user, read, written])
    }

    /// Bytes of Redis for a user who is there. Clients that are dropped say nothing, so they stay
    /// until they are given up.
    async fn memory_of_user(&self) -> Done<f64> {
        let [before] = self.info(["used_memory"])?;
        for number in 0..SESSIONS {
            self.meet(Call::TwoNodes, number).await?;
        }
        let [after] = self.info(["used_memory"])?;
        Ok((after - before) / (2 * SESSIONS) as f64)
    }

    async fn make(&self, call: Call, calls: usize) -> Done<()> {
        let until = *self.next.borrow() + calls;
        let one_after_another = async || -> Done<()> {
            loop {
                let number = self.next.replace_with(|number| *number + 1);
                if number >= until {
                    return Ok(());
                }
                self.call(call, number).await?;
            }
        };
        try_join_all((0..AT_ONCE).map(|_| one_after_another())).await?;
        self.next.replace(until);
        Ok(())
    }

    /// Two users are matched and connect.
    async fn meet(&self, call: Call, number: usize) -> Done<(SessionId, [Client; 2])> {
        let [near, far] = &self.relays;
        let far = if call == Call::OneNode { near } else { far };
        let (ann, bob) = (texts::user(2 * number), texts::user(2 * number + 1));
        let session = texts::session(number);
        let _ = near.open(NewSession::between(&ann, &bob).id(&session)).await?;
        let clients = [connect(near, ann), connect(far, bob)];
        for client in &clients {
            client.expect("match-found").await;
        }
        Ok((session, clients))
    }

    async fn call(&self, call: Call, number: usize) -> Done<()> {
        let (session, [ann, bob]) = self.meet(call, number).await?;
        if call == Call::Signals {
            signals(&session, &ann, &bob).await;
        }
        ann.say(Frame::Text(texts::leave(&session).into()));
        bob.expect("partner-disconnected").await;
        ann.say(Frame::Close(None));
        bob.say(Frame::Close(None));
        Ok(())
    }
}

fn connect(relay: &Relay, user: UserId) -> Client {
    let ((transport, client), relay) = (line(), relay.clone());
    tokio::spawn(async move { relay.serve(transport, Identity::new(user)).await });
    client
}

async fn signals(session: &SessionId, ann: &Client, bob: &Client) {
    for (from, to, kind) in [(ann, bob, "offer"), (bob, ann, "answer")] {
        from.say(Frame::Text(texts::description(kind, session).into()));
        to.expect(kind).await;
    }
    let candidate = Text::from(texts::candidate(session));
    for _ in 0..CANDIDATES {
        ann.say(Frame::Text(candidate.clone()));
        bob.say(Frame::Text(candidate.clone()));
    }
    for _ in 0..CANDIDATES {
        ann.expect("ice-candidate").await;
        bob.expect("ice-candidate").await;
    }
}
