//! As much of a TURN client as gets an allocation over UDP: RFC 8489 (STUN), 5, 9.2 and 14, and
//! RFC 8656 (TURN), 7.1.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use signaling_core::ice::IceServer;

const MAGIC_COOKIE: u32 = 0x2112_A442;
const HEADER_BYTES: usize = 20;
const INTEGRITY_BYTES: usize = 24;

const BINDING: u16 = 0x0001;
const ALLOCATE: u16 = 0x0003;
const SUCCESS: u16 = 0x0100;
const ERROR: u16 = 0x0110;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const REQUESTED_TRANSPORT: u16 = 0x0019;
/// IANA's number of UDP, and three bytes that are reserved.
const UDP: [u8; 4] = [17, 0, 0, 0];

/// The longest that an answer takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server said to a request for an allocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    Made,
    /// With this error code.
    Refused(u16),
}

/// Whether a STUN server is there.
pub(crate) fn answers(server: SocketAddr) -> bool {
    let socket = connected(server, Duration::from_millis(200));
    exchange(&socket, &Message::new(BINDING)).is_some_and(|answer| answer.kind == BINDING | SUCCESS)
}

/// Asks `server` for an allocation with the long-term credentials (RFC 8489, 9.2) of `who`.
pub(crate) fn allocate(server: SocketAddr, who: &IceServer) -> Allocation {
    let socket = connected(server, PATIENCE);
    let request = || Message::new(ALLOCATE).with(REQUESTED_TRANSPORT, &UDP);
    let challenge = exchange(&socket, &request()).expect("a challenge");
    assert_eq!(challenge.error(), Some(401), "without credentials");
    let (realm, nonce) = (challenge.value(REALM).unwrap(), challenge.value(NONCE).unwrap());
    let (username, password) = (who.username().unwrap(), who.credential().unwrap());
    let key = Md5::new()
        .chain_update(username)
        .chain_update(b":")
        .chain_update(realm)
        .chain_update(b":")
        .chain_update(password)
        .finalize();
    let request = request().with(USERNAME, username.as_bytes()).with(REALM, realm);
    let request = request.with(NONCE, nonce).signed(&key);
    let answer = exchange(&socket, &request).expect("an answer");
    match answer.kind {
        kind if kind == ALLOCATE | SUCCESS => Allocation::Made,
        kind if kind == ALLOCATE | ERROR => Allocation::Refused(answer.error().unwrap()),
        other => panic!("neither success nor error: {other:#06x}"),
    }
}

fn connected(server: SocketAddr, abandon_after: Duration) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(abandon_after)).unwrap();
    socket
}

/// On loopback nothing is lost, so nothing is sent twice.
fn exchange(socket: &UdpSocket, request: &Message) -> Option<Message> {
    socket.send(&request.to_bytes()).ok()?;
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Message::parse(&buffer[..length]))
}

struct Message {
    kind: u16,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Message {
    fn new(kind: u16) -> Self {
        Self { kind, attributes: Vec::new() }
    }

    fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        self.attributes.push((attribute, value.to_vec()));
        self
    }

    /// With MESSAGE-INTEGRITY, whose length the header counts already: RFC 8489, 14.5.
    fn signed(self, key: &[u8]) -> Self {
        let mut bytes = self.to_bytes();
        let length = bytes.len() - HEADER_BYTES + INTEGRITY_BYTES;
        bytes[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap();
        mac.update(&bytes);
        self.with(MESSAGE_INTEGRITY, &mac.finalize().into_bytes())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (attribute, value) in &self.attributes {
            body.extend(attribute.to_be_bytes());
            body.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = self.kind.to_be_bytes().to_vec();
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(MAGIC_COOKIE.to_be_bytes());
        bytes.extend(b"transaction!");
        bytes.extend(body);
        bytes
    }

    fn parse(bytes: &[u8]) -> Self {
        let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut message = Self::new(number(0));
        let mut at = HEADER_BYTES;
        while at < bytes.len() {
            let (attribute, length) = (number(at), usize::from(number(at + 2)));
            message = message.with(attribute, &bytes[at + 4..at + 4 + length]);
            at += 4 + length.next_multiple_of(4);
        }
        message
    }

    fn value(&self, attribute: u16) -> Option<&[u8]> {
        let found = self.attributes.iter().find(|(kind, _)| *kind == attribute);
        found.map(|(_, value)| &**value)
    }

    /// RFC 8489, 14.8.
    fn error(&self) -> Option<u16> {
        let value = self.value(ERROR_CODE)?;
        Some(u16::from(value[2]) * 100 + u16::from(value[3]))
    }
}
