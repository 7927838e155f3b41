//! A server process, a small HTTP client, and WebSocket clients with tokens.

use std::{
    collections::VecDeque,
    io::{PipeReader, Write},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{SinkExt, StreamExt};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    process::{Child, Command},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

pub(crate) const JWT_SECRET: &str = "known-jwt-secret-0123456789abcdef";
pub(crate) const API_KEY: &str = "known-api-key-0123456789abcdef-ok";
/// Both, as variables.
pub(crate) const KEYS: [(&str, &str); 2] =
    [("SIGNALING_JWT_SECRET", JWT_SECRET), ("SIGNALING_API_KEY", API_KEY)];
/// Within which everything has happened, on a slow machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An address for a server that cannot print its own. While the socket is held, no other process is
/// given the port: the socket is bound but does not listen.
pub(crate) fn reserve_address() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// The command without any setting of the machine's own.
pub(crate) fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("SIGNALING_"));
        if ours || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_signaling-server")));
    command
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a server that is to end by itself; its exit code, and all that it said.
pub(crate) async fn run(args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
    let output = timeout(PATIENCE, command(args, env).output()).await;
    let output = output.expect("the server ends").unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// How what a server writes is not read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unread {
    /// Every write fails: the disk is full.
    Full,
    /// The reader of the pipe has gone.
    Gone,
    /// The pipe is full, and its reader does not read.
    Stuck,
}

impl Unread {
    /// A stream of that kind, or one that goes nowhere; and what keeps it so.
    pub(crate) fn stdio(unread: Option<Self>) -> (Stdio, Option<PipeReader>) {
        match unread {
            None => (Stdio::null(), None),
            Some(Self::Full) => {
                (std::fs::File::options().write(true).open("/dev/full").unwrap().into(), None)
            }
            Some(Self::Gone) => (std::io::pipe().unwrap().1.into(), None),
            Some(Self::Stuck) => {
                let (reader, writer) = std::io::pipe().unwrap();
                let mut filler = writer.try_clone().unwrap();
                // Waits in the middle of it, until the reader is gone.
                std::thread::spawn(move || filler.write_all(&vec![b'.'; 16 << 20]));
                (writer.into(), Some(reader))
            }
        }
    }
}

/// A running server; it is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
    /// Those that read what it says.
    readers: Vec<JoinHandle<()>>,
    /// All that it has said so far.
    pub(crate) said: Arc<Mutex<String>>,
}

impl Server {
    /// With both keys and these flags besides.
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_with(args, &KEYS).await
    }

    pub(crate) async fn start_with(args: &[&str], env: &[(&str, &str)]) -> Self {
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        Self::started(command(&args, env).spawn().unwrap()).await
    }

    /// On another address.
    pub(crate) async fn start_on(listen: &str, env: &[(&str, &str)]) -> Self {
        Self::started(command(&["--listen", listen], env).spawn().unwrap()).await
    }

    /// As [`Self::start`], with at most so many files open at once.
    pub(crate) async fn start_with_files(files: usize, args: &[&str]) -> Self {
        let env = [("SIGNALING_JWT_SECRET", JWT_SECRET), ("SIGNALING_API_KEY", API_KEY)];
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        let server = command(&args, &env);
        let mut limited = Command::new("sh");
        limited
            .args(["-c", r#"ulimit -n "$0" && exec "$@""#, &files.to_string()])
            .arg(server.as_std().get_program())
            .args(server.as_std().get_args())
            .env_clear()
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self::started(limited.spawn().unwrap()).await
    }

    async fn started(mut child: Child) -> Self {
        let said = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = collect(BufReader::new(child.stderr.take().unwrap()).lines(), said.clone());
        let first = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let first = first.unwrap_or_else(|| panic!("no server: {}", said.lock().unwrap()));
        let (_, address) = first.split_once("http://").expect("an address in the first line");
        let address = address.to_owned();
        said.lock().unwrap().push_str(&format!("{first}\n"));
        Self { readers: vec![collect(lines, said.clone()), stderr], child, address, said }
    }

    /// One that says nothing here, and is to listen on `address`.
    pub(crate) async fn start_silent(mut command: Command, address: &str) -> Self {
        let child = command.spawn().unwrap();
        let address = address.to_owned();
        let server = Self { readers: Vec::new(), child, address, said: Arc::default() };
        let up = async {
            while TcpStream::connect(&server.address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, up).await.expect("it listens");
        server
    }

    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
        assert!(sent.await.unwrap().success());
    }

    /// The exit code, and all that it said.
    pub(crate) async fn ended(mut self) -> (i32, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the server ends");
        for reader in self.readers {
            reader.await.unwrap();
        }
        let said = self.said.lock().unwrap().clone();
        (status.unwrap().code().expect("an exit code"), said)
    }

    /// Ends it as an operator does.
    pub(crate) async fn stop(self) -> (i32, String) {
        self.signal("TERM").await;
        self.ended().await
    }

    /// A request to the API with its key, and a body where there is one.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.try_api(method, path, body).await.expect("an answer")
    }

    /// The same of a server that may be gone before it answers.
    pub(crate) async fn try_api(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> std::io::Result<Answer> {
        let headers =
            format!("Authorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.try_request(&self.address, method, path, &headers, &body).await
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Answer {
        self.request_to(&self.address, method, path, headers, body).await
    }

    /// The same with another `Host`.
    pub(crate) async fn request_to(
        &self,
        host: &str,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Answer {
        self.try_request(host, method, path, headers, body).await.expect("an answer")
    }

    async fn try_request(
        &self,
        host: &str,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> std::io::Result<Answer> {
        let connect = timeout(PATIENCE, TcpStream::connect(&self.address));
        let mut socket = connect.await.expect("a connection in time")?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            body.len(),
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut answer)).await.expect("an answer in time")?;
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok(Answer {
            status: head[9..12].parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        })
    }

    pub(crate) async fn connect(&self, user: &str) -> Client {
        self.connect_with(&token(user)).await
    }

    /// A connection that the server may refuse yet.
    pub(crate) async fn try_connect(&self, token: &str) -> Client {
        Client::at(&format!("ws://{}/ws/signaling?token={token}", self.address)).await
    }

    pub(crate) async fn connect_with(&self, token: &str) -> Client {
        self.try_connect(token).await.known().await
    }
}

fn collect<R>(mut lines: tokio::io::Lines<R>, said: Arc<Mutex<String>>) -> JoinHandle<()>
where
    R: tokio::io::AsyncBufRead + Send + Unpin + 'static,
{
    tokio::spawn(async move {
        while let Some(line) = lines.next_line().await.unwrap() {
            said.lock().unwrap().push_str(&format!("{line}\n"));
        }
    })
}

/// An answer over HTTP.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    /// The status, the error's code, and that it is an error in the API's form.
    pub(crate) fn error(&self) -> (u16, String) {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
        assert_eq!(body.as_object().unwrap().len(), 1);
        assert!(!error["message"].as_str().unwrap().is_empty());
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}

/// A WebSocket client.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What came before the server was known to know the client.
    early: VecDeque<Value>,
}

impl Client {
    /// A connection to an endpoint, which may be refused yet.
    pub(crate) async fn at(url: &str) -> Self {
        let socket = timeout(PATIENCE, connect_async(url)).await.expect("an upgrade");
        Self { socket: socket.unwrap().0, early: VecDeque::new() }
    }

    /// The same once the server has let it in.
    pub(crate) async fn known(mut self) -> Self {
        // Who was answered is known to the server.
        self.send(&json!({"type": "heartbeat", "id": 1})).await;
        let ack = json!({"type": "heartbeat-ack", "id": 1});
        let mut early = VecDeque::new();
        loop {
            match self.next().await {
                message if message == ack => break,
                message => early.push_back(message),
            }
        }
        self.early = early;
        self
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message; pings are for the client underneath.
    pub(crate) async fn next(&mut self) -> Value {
        if let Some(message) = self.early.pop_front() {
            return message;
        }
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("a message") {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("no message: {other:?}"),
            }
        }
    }

    /// Closes the connection well.
    pub(crate) async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while let Some(Ok(_)) = timeout(PATIENCE, self.socket.next()).await.expect("an end") {}
    }

    /// The code that the server closes with, passing over what it says before.
    pub(crate) async fn closed(self) -> u16 {
        self.closed_with().await.0
    }

    /// The code and the text of its close frame.
    pub(crate) async fn closed_with(mut self) -> (u16, String) {
        let mut closed = None;
        while let Some(frame) = timeout(PATIENCE, self.socket.next()).await.expect("an end") {
            match frame {
                Ok(Message::Close(Some(close))) => {
                    closed = Some((close.code.into(), close.reason.to_string()));
                }
                Ok(_) => {}
                Err(error) => panic!("no clean end: {error}"),
            }
        }
        closed.expect("a close code")
    }
}

/// A token that servers with [`JWT_SECRET`] accept.
pub(crate) fn token(user: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let claims =
        URL_SAFE_NO_PAD.encode(json!({"sub": user, "exp": 32_503_680_000_u64}).to_string());
    let message = format!("{header}.{claims}");
    let mut mac = Hmac::<Sha256>::new_from_slice(JWT_SECRET.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}
