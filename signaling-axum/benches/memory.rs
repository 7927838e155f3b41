//! What a connection costs, in either adapter: resident memory of the server for each of 2,000 idle
//! ones, and its processor time for each signal between 64 pairs that say one at a time.
//!
//! ```text
//! cargo bench --package signaling-axum --bench memory [-- READ WRITE SIGNAL]
//! ```
//!
//! READ and WRITE are buffer sizes and SIGNAL the size of a description, in bytes, where they are not
//! to be the defaults and that of a candidate. Linux only. The server is a process of its own: this
//! program again, started with the name of the adapter.

use std::{env, error::Error, fs, future::Future, process::Stdio};

use async_trait::async_trait;
use axum::serve::ListenerExt;
use futures::{SinkExt, StreamExt, future};
use signaling_axum::Endpoint;
use signaling_core::{
    Config, Relay,
    auth::{AuthError, Authenticator, Credentials, Identity},
    id::UserId,
};
use tokio::{
    io::{self, AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpSocket, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Client = WebSocketStream<TcpStream>;

const CONNECTIONS: usize = 2_000;
/// Before the count: what the first ones need is needed once.
const WARM_UP: usize = 200;
const PAIRS: usize = 64;
const ROUND_TRIPS: usize = 500;
const HEARTBEAT: &str = r#"{"type":"heartbeat","id":1}"#;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let sizes: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let [read, write, signal] = sizes[..].try_into().unwrap_or([
        Endpoint::DEFAULT_READ_BUFFER_BYTES,
        Endpoint::DEFAULT_WRITE_BUFFER_BYTES,
        300,
    ]);
    match args.first().map(String::as_str) {
        Some("axum") => serve(axum(read, write)).await,
        Some("warp") => serve(warp(read, write)).await,
        _ => {
            for adapter in ["axum", "warp"] {
                measure(adapter, [read, write, signal]).await?;
            }
            Ok(())
        }
    }
}

/// The server's side: tells its address, and then matches the users whose numbers it is given.
async fn serve<F>(started: impl Future<Output = Result<(Relay, String, F)>>) -> Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (relay, address, server) = started.await?;
    tokio::spawn(server);
    println!("{address}");
    let mut lines = BufReader::new(io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (first, second) = line.split_once(' ').ok_or("two users")?;
        relay.open_session(&first.parse()?, &second.parse()?).await?;
    }
    Ok(())
}

async fn relay() -> Result<Relay> {
    let mut config = Config::default();
    config.max_signals_per_second = 0;
    Ok(Relay::builder(Names).config(config).start().await?)
}

async fn axum(read: usize, write: usize) -> Result<(Relay, String, impl Future<Output = ()>)> {
    let relay = relay().await?;
    let endpoint = Endpoint::new(relay.clone()).buffer_sizes(read, write);
    let listener = listener()?;
    let address = listener.local_addr()?.to_string();
    let listener = listener.tap_io(|_| ());
    let server = async { drop(axum::serve(listener, endpoint.into_router::<()>()).await) };
    Ok((relay, address, server))
}

async fn warp(read: usize, write: usize) -> Result<(Relay, String, impl Future<Output = ()>)> {
    let relay = relay().await?;
    let endpoint = signaling_warp::Endpoint::new(relay.clone()).buffer_sizes(read, write);
    let listener = listener()?;
    let address = listener.local_addr()?.to_string();
    Ok((relay, address, warp::serve(endpoint.route()).incoming(listener).run()))
}

fn listener() -> Result<tokio::net::TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind("127.0.0.1:0".parse()?)?;
    Ok(socket.listen(1024)?)
}

async fn measure(adapter: &str, sizes: [usize; 3]) -> Result<()> {
    let mut server = Server::start(adapter, sizes).await?;
    let mut clients = Vec::new();
    for n in 0..WARM_UP {
        clients.push(connect(&server.address, n).await?);
    }
    let before = server.resident_kib()?;
    for n in WARM_UP..WARM_UP + CONNECTIONS {
        clients.push(connect(&server.address, n).await?);
    }
    let each = (server.resident_kib()? - before) / CONNECTIONS as f64;

    let mut pairs = Vec::new();
    let mut clients = clients.into_iter().take(2 * PAIRS);
    while let (Some(first), Some(second)) = (clients.next(), clients.next()) {
        let n = 2 * pairs.len();
        server.input.write_all(format!("user-{n} user-{}\n", n + 1).as_bytes()).await?;
        pairs.push((first, second));
    }
    let before = server.processor_seconds()?;
    future::try_join_all(pairs.into_iter().map(|(first, second)| talk(first, second, sizes[2])))
        .await?;
    let signals = 2 * PAIRS * ROUND_TRIPS;
    let cost = (server.processor_seconds()? - before) / signals as f64 * 1e6;
    println!(
        "{adapter}, buffers of {} and {} bytes: {each:.2} KiB for each idle connection, {cost:.1} µs \
         for each signal of {} bytes",
        sizes[0], sizes[1], sizes[2]
    );
    server.child.kill().await?;
    Ok(())
}

async fn connect(address: &str, n: usize) -> Result<Client> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let small = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
    let url = format!("ws://{address}/ws/signaling?token=user-{n}");
    let (mut client, _) = client_async_with_config(url, stream, Some(small)).await?;
    client.send(Message::text(HEARTBEAT)).await?;
    text(&mut client).await?;
    Ok(client)
}

async fn text(client: &mut Client) -> Result<String> {
    loop {
        match client.next().await.ok_or("the connection ended")?? {
            Message::Text(text) => return Ok(text.as_str().to_owned()),
            Message::Ping(_) => {}
            other => return Err(format!("{other:?} is no message").into()),
        }
    }
}

/// Each says something when it has heard the other.
async fn talk(mut first: Client, mut second: Client, bytes: usize) -> Result<()> {
    let found: serde_json::Value = serde_json::from_str(&text(&mut first).await?)?;
    text(&mut second).await?;
    let session = &found["sessionId"];
    let sdp = "x".repeat(bytes);
    let offer = format!(r#"{{"type":"offer","sessionId":{session},"sdp":"{sdp}"}}"#);
    let answer = offer.replace("offer", "answer");
    for _ in 0..ROUND_TRIPS {
        first.send(Message::text(offer.as_str())).await?;
        text(&mut second).await?;
        second.send(Message::text(answer.as_str())).await?;
        text(&mut first).await?;
    }
    Ok(())
}

struct Server {
    child: Child,
    input: ChildStdin,
    _output: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Server {
    async fn start(adapter: &str, sizes: [usize; 3]) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg(adapter)
            .args(sizes.map(|size| size.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let address = output.next_line().await?.ok_or("no address")?;
        Ok(Self { child, input, _output: output, address })
    }

    fn file(&self, name: &str) -> Result<String> {
        let id = self.child.id().ok_or("it has ended")?;
        Ok(fs::read_to_string(format!("/proc/{id}/{name}"))?)
    }

    fn resident_kib(&self) -> Result<f64> {
        let status = self.file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?.parse()?)
    }

    /// In user and kernel mode, of 100 ticks a second.
    fn processor_seconds(&self) -> Result<f64> {
        let stat = self.file("stat")?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("no stat")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<std::result::Result<f64, _>>()? / 100.0)
    }
}

/// Believes everybody's name.
#[derive(Debug)]
struct Names;

#[async_trait]
impl Authenticator for Names {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> std::result::Result<Identity, AuthError> {
        let name = credentials.token().ok_or(AuthError::Missing)?;
        UserId::new(name).map(Identity::new).map_err(AuthError::invalid)
    }
}
