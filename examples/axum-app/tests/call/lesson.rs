//! A lesson of two, and its end, in the school that axum-app and warp-app are.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    process::Stdio,
    thread,
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "axum-app-test-secret-0123456789abcdef";
/// Users `ann` and `bob` until the year 3000, signed with the secret.
const ANN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjMyNTAzNjgwMDAwfQ.IwP1cGh87ospwpJzlO731EWzplJSBl5FtMkFFxGJY6s";
const BOB: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IiLCJleHAiOjMyNTAzNjgwMDAwfQ.u_p1AIqNoOmDyV8Nbe5ldDhJOVdGC0vwVtABi5DFIt0";

/// Starts the example `binary`, has two users join a lesson, and ends the example.
pub(crate) async fn is_held_by(binary: &str) {
    let mut app = command(binary, "127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(app.stdout.take().unwrap()).lines();
    let address = loop {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        if let Some((_, address)) = line.expect("an address").split_once("http://") {
            break address.to_owned();
        }
    };
    hold(&address, &mut app).await;
}

/// The same where nobody can read what the example says: the disk is full, or the reader has gone or is stuck.
pub(crate) async fn is_held_unread_by(binary: &str) {
    for kind in ["full", "gone", "stuck"] {
        let (reader, mut writer) = io::pipe().unwrap();
        let _unread = (kind == "stuck").then_some(reader);
        let mut filler = writer.try_clone().unwrap();
        match kind {
            "full" => {
                writer =
                    OwnedFd::from(File::options().write(true).open("/dev/full").unwrap()).into()
            }
            // Waits in the middle of it, until the example has ended.
            "stuck" => drop(thread::spawn(move || filler.write_all(&vec![b'.'; 16 << 20]))),
            _ => {}
        }
        // Bound but not listening: no other process is given this port.
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = reserved.local_addr().unwrap().to_string();
        let stderr = writer.try_clone().unwrap();
        let mut app = command(binary, &address).stdout(writer).stderr(stderr).spawn().unwrap();
        let up = async {
            while TcpStream::connect(&address).await.is_err() {
                assert_eq!(app.try_wait().unwrap(), None, "{kind}: it has ended");
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, up).await.unwrap_or_else(|_| panic!("{kind}: it does not listen"));
        hold(&address, &mut app).await;
    }
}

fn command(binary: &str, listen: &str) -> Command {
    let mut command = Command::new(binary);
    command.envs([("JWT_SECRET", SECRET), ("LISTEN", listen)]).kill_on_drop(true);
    command
}

async fn hold(address: &str, app: &mut Child) {
    let mut ann = connect(address, ANN).await;
    let mut bob = connect(address, BOB).await;

    assert_eq!(join(address, "no-token").await, 401);
    assert_eq!(join(address, ANN).await, 202);
    assert_eq!(join(address, ANN).await, 202);
    assert_eq!(join(address, BOB).await, 200);
    let found = |partner: &str, initiator: bool| json!({"type": "match-found", "sessionId": "maths", "partnerId": partner, "isInitiator": initiator});
    assert_eq!(next(&mut ann).await, found("bob", true));
    assert_eq!(next(&mut bob).await, found("ann", false));

    let offer = json!({"type": "offer", "sessionId": "maths", "sdp": "v=0 offer"});
    send(&mut ann, &offer).await;
    assert_eq!(next(&mut bob).await, offer);
    let answer = json!({"type": "answer", "sessionId": "maths", "sdp": "v=0 answer"});
    send(&mut bob, &answer).await;
    assert_eq!(next(&mut ann).await, answer);

    let pid = app.id().unwrap().to_string();
    let interrupt = Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status();
    assert!(interrupt.await.unwrap().success());
    assert_eq!(futures::join!(closed(ann), closed(bob)), (1001, 1001));
    let status = timeout(PATIENCE, app.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

async fn connect(address: &str, token: &str) -> Client {
    let address = format!("ws://{address}/ws/signaling?token={token}");
    timeout(PATIENCE, connect_async(address)).await.expect("an upgrade").unwrap().0
}

/// The HTTP status of joining the lesson.
async fn join(address: &str, token: &str) -> u16 {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /lessons/maths/join HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, socket.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    answer[9..12].parse().unwrap()
}

async fn send(client: &mut Client, message: &Value) {
    let message = Message::text(message.to_string());
    client.send(message).await.unwrap();
}

async fn next(client: &mut Client) -> Value {
    loop {
        match timeout(PATIENCE, client.next()).await.expect("a message") {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("no message: {other:?}"),
        }
    }
}

async fn closed(mut client: Client) -> u16 {
    let mut code = None;
    while let Some(frame) = timeout(PATIENCE, client.next()).await.expect("an end") {
        if let Message::Close(Some(close)) = frame.unwrap() {
            code = Some(close.code.into());
        }
    }
    code.expect("a close code")
}
