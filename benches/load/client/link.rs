//! The connection beneath a client: frames of a WebSocket, or lines of plain TCP.
//!
//! A client library would cost as much as the forwarders measured with it, and the server must be the bottleneck.
//! So frames are built once and only their number is changed, and nothing else is parsed of a signal.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::atomic::{AtomicU8, Ordering},
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::Done;

/// The least room for one read: an offer fits.
const BUFFER: usize = 8192;
/// Client addresses, used in turn. If more than half of the ports of one address are in use, the kernel takes long
/// to find a free one.
const SOURCES: u8 = 8;
/// The masking key of every frame: not zero, since `ws` skips unmasking then.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The example of RFC 6455, section 1.3, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What precedes the number of a signal, and how many digits that has. The first is a 1.
const FIELD: &[u8] = br#""n":1"#;
const DIGITS: usize = 9;
const FIRST_NUMBER: u32 = 100_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    WebSocket,
    Lines,
}

pub(super) struct Link {
    socket: TcpStream,
    framing: Framing,
    /// What was read. Frames before `next` were taken.
    inbox: Vec<u8>,
    next: usize,
    /// What is to be written.
    outbox: Vec<u8>,
    /// Where the number was in the last signal: it is at the same place in the next.
    number_at: usize,
    finished: bool,
}

/// The frame of a signal, built beforehand.
pub(crate) struct Prepared {
    bytes: Vec<u8>,
    number_at: usize,
    /// What the digits of the number are masked with.
    mask: [u8; DIGITS],
}

#[derive(Debug, PartialEq)]
enum Frame {
    Text(Range<usize>),
    Ping(Range<usize>),
    Pong,
    Close,
}

/// What was received. A text is a range of the inbox, valid until the next [`Link::fill`].
pub(super) enum Read {
    Signal {
        number: u32,
        text: Range<usize>,
    },
    Text(Range<usize>),
    /// The connection ended in order.
    End,
}

impl Framing {
    fn put(self, opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
        if self == Self::Lines {
            out.extend_from_slice(payload);
            out.push(b'\n');
            return;
        }
        out.push(0x80 | opcode);
        match payload.len() {
            short @ ..=125 => out.push(0x80 | short as u8),
            long => {
                // No text here is longer than 65,535 bytes.
                out.push(0x80 | 126);
                out.extend_from_slice(&(long as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(&MASK);
        let start = out.len();
        out.extend_from_slice(payload);
        let (chunks, rest) = out[start..].as_chunks_mut();
        for chunk in chunks {
            *chunk = (u32::from_ne_bytes(*chunk) ^ u32::from_ne_bytes(MASK)).to_ne_bytes();
        }
        rest.iter_mut().zip(MASK).for_each(|(byte, mask)| *byte ^= mask);
    }

    fn prepare(self, signal: &str) -> Done<Prepared> {
        let in_text = find_number(signal.as_bytes()).ok_or("a signal without a number")?;
        let mut bytes = Vec::with_capacity(signal.len() + 16);
        self.put(TEXT, signal.as_bytes(), &mut bytes);
        let trailer = usize::from(self == Self::Lines);
        let number_at = bytes.len() - trailer - signal.len() + in_text;
        let mask =
            std::array::from_fn(|at| bytes[number_at + at] ^ signal.as_bytes()[in_text + at]);
        Ok(Prepared { bytes, number_at, mask })
    }

    /// The first frame in `bytes`, and where the next one begins; None if it is not complete.
    fn take(self, bytes: &[u8]) -> Done<Option<(Frame, usize)>> {
        if self == Self::Lines {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            return Ok(end.map(|end| (Frame::Text(0..end), end + 1)));
        }
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (start, length) = match (second, rest) {
            (length @ ..=125, _) => (2, usize::from(length)),
            (126, &[high, low, ..]) => (4, usize::from(u16::from_be_bytes([high, low]))),
            (126, _) => return Ok(None),
            (127.., _) => return Err("a masked or oversized frame".into()),
        };
        let end = start + length;
        if bytes.len() < end {
            return Ok(None);
        }
        let frame = match first {
            0x81 => Frame::Text(start..end),
            0x88 => Frame::Close,
            0x89 => Frame::Ping(start..end),
            0x8a => Frame::Pong,
            other => return Err(format!("a frame that begins with {other:#x}").into()),
        };
        Ok(Some((frame, end)))
    }
}

impl Link {
    pub(super) async fn websocket(at: SocketAddr, path: &str) -> Done<Self> {
        let mut link = Self::dial(at, Framing::WebSocket).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        link.outbox.extend_from_slice(request.as_bytes());
        loop {
            if link.fill().await? == 0 {
                return Err("the connection ended in its handshake".into());
            }
            let end = link.inbox.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end else { continue };
            let head = str::from_utf8(&link.inbox[..end])?;
            if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
                return Err(format!("no upgrade: {head}").into());
            }
            link.next = end + 4;
            return Ok(link);
        }
    }

    /// The answer to its first line stands for the handshake.
    pub(super) async fn tcp(at: SocketAddr, first: &str) -> Done<Self> {
        let mut link = Self::dial(at, Framing::Lines).await?;
        link.feed(first);
        while link.ready()?.is_none() {
            if link.fill().await? == 0 {
                return Err("no answer to the first line".into());
            }
        }
        Ok(link)
    }

    async fn dial(at: SocketAddr, framing: Framing) -> Done<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let source = Ipv4Addr::new(127, 0, 0, 1 + NEXT.fetch_add(1, Ordering::Relaxed) % SOURCES);
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        // The port is chosen by connect, so that a port closed a moment ago may be used again.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind((source, 0).into())?;
        let socket = socket.connect(at).await?;
        let (inbox, outbox) = (Vec::new(), Vec::new());
        Ok(Self { socket, framing, inbox, next: 0, outbox, number_at: 0, finished: false })
    }

    pub(super) fn prepare(&self, signal: &str) -> Done<Prepared> {
        self.framing.prepare(signal)
    }

    pub(super) fn feed(&mut self, text: &str) {
        self.framing.put(TEXT, text.as_bytes(), &mut self.outbox);
    }

    pub(super) fn feed_signal(&mut self, signal: &Prepared, number: u32) {
        let digits = self.outbox.len() + signal.number_at;
        self.outbox.extend_from_slice(&signal.bytes);
        let mut rest = FIRST_NUMBER + number;
        for at in (0..DIGITS).rev() {
            self.outbox[digits + at] = (b'0' + (rest % 10) as u8) ^ signal.mask[at];
            rest /= 10;
        }
    }

    /// Cancel-safe: what is not written yet stays in the outbox.
    pub(super) async fn flush(&mut self) -> Done<()> {
        while !self.outbox.is_empty() {
            let written = self.socket.write(&self.outbox).await?;
            self.outbox.drain(..written);
        }
        Ok(())
    }

    /// Writes what was fed, then reads once. Returns the number of bytes read, 0 at the end. Cancel-safe.
    pub(super) async fn fill(&mut self) -> Done<usize> {
        self.flush().await?;
        self.inbox.drain(..self.next);
        self.next = 0;
        self.inbox.reserve(BUFFER);
        Ok(self.socket.read_buf(&mut self.inbox).await?)
    }

    /// What was read completely and not taken yet. Pings of the WebSocket are answered with what is fed next.
    pub(super) fn ready(&mut self) -> Done<Option<Read>> {
        while let Some((frame, length)) = self.framing.take(&self.inbox[self.next..])? {
            let start = self.next;
            self.next += length;
            match frame {
                Frame::Text(text) => {
                    let text = start + text.start..start + text.end;
                    let number = self.number(&text);
                    return Ok(Some(match number {
                        Some(number) => Read::Signal { number, text },
                        None => Read::Text(text),
                    }));
                }
                Frame::Ping(payload) => {
                    let payload = &self.inbox[start..][payload];
                    self.framing.put(PONG, payload, &mut self.outbox);
                }
                Frame::Pong => {}
                Frame::Close => return Ok(Some(Read::End)),
            }
        }
        Ok(None)
    }

    pub(super) fn text(&self, text: Range<usize>) -> Done<&str> {
        Ok(str::from_utf8(&self.inbox[text])?)
    }

    /// It is at the same place as in the last signal, if that was of the same kind.
    fn number(&mut self, text: &Range<usize>) -> Option<u32> {
        let text = &self.inbox[text.clone()];
        let number = number_at(text, self.number_at);
        number.or_else(|| {
            self.number_at = find_number(text)?;
            number_at(text, self.number_at)
        })
    }

    /// A ping, in a WebSocket.
    pub(super) fn ping(&mut self) -> bool {
        let is_websocket = self.framing == Framing::WebSocket;
        if is_websocket {
            self.framing.put(PING, &[], &mut self.outbox);
        }
        is_websocket
    }

    pub(super) const fn is_websocket(&self) -> bool {
        matches!(self.framing, Framing::WebSocket)
    }

    /// Says that it is the end; what still comes can be read.
    pub(super) async fn finish(&mut self) -> Done<()> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        if self.is_websocket() {
            self.framing.put(CLOSE, &[], &mut self.outbox);
            return self.flush().await;
        }
        Ok(self.socket.shutdown().await?)
    }

    /// Ends the connection in order.
    pub(super) async fn close(mut self) -> Done<()> {
        self.finish().await?;
        if self.is_websocket() {
            while matches!(self.fill().await, Ok(1..)) {
                self.next = self.inbox.len();
            }
        }
        Ok(())
    }
}

/// Where the digits of a signal's number begin: most servers leave it near the end.
fn find_number(text: &[u8]) -> Option<usize> {
    let field = text.windows(FIELD.len()).rposition(|window| window == FIELD)?;
    Some(field + FIELD.len() - 1)
}

/// The number with its digits from `at` on, if that is where it is.
fn number_at(text: &[u8], at: usize) -> Option<u32> {
    let field = at.checked_sub(FIELD.len() - 1)?;
    let digits = text.get(field..at + DIGITS)?.strip_prefix(&FIELD[..FIELD.len() - 1])?;
    let mut number = 0_u32;
    for digit in digits {
        number = number * 10 + u32::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    number.checked_sub(FIRST_NUMBER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNAL: &str = r#"{"type":"offer","sdp":{"n":100000000}}"#;

    #[test]
    fn a_prepared_frame_differs_in_its_number_alone() {
        let prepared = Framing::WebSocket.prepare(SIGNAL).unwrap();
        let mut bytes = prepared.bytes.clone();
        for (at, digit) in b"100000123".iter().enumerate() {
            bytes[prepared.number_at + at] = digit ^ prepared.mask[at];
        }
        let (head, payload) = bytes.split_at(6);
        assert_eq!(head, [0x81, 0x80 | SIGNAL.len() as u8, 0x37, 0xfa, 0x21, 0x3d]);
        let text: Vec<u8> =
            payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(str::from_utf8(&text).unwrap(), SIGNAL.replace("000000}", "000123}"));
        assert_eq!(find_number(&text).and_then(|at| number_at(&text, at)), Some(123));
        assert_eq!(Framing::Lines.prepare(SIGNAL).unwrap().mask, [0; DIGITS]);
    }

    #[test]
    fn frames_are_taken_when_they_are_complete() {
        let take = |bytes: &[u8]| Framing::WebSocket.take(bytes).unwrap();
        let long = [&[0x81, 126, 1, 0][..], &[b'x'; 256]].concat();
        for (bytes, frame) in [
            (&b"\x81\x02hi"[..], Frame::Text(2..4)),
            (&long, Frame::Text(4..260)),
            (b"\x89\x01p", Frame::Ping(2..3)),
            (b"\x8a\x00", Frame::Pong),
            (b"\x88\x02\x03\xe8", Frame::Close),
        ] {
            for end in 0..bytes.len() {
                assert_eq!(take(&bytes[..end]), None);
            }
            assert_eq!(take(&[bytes, b"\x81"].concat()), Some((frame, bytes.len())));
        }
        for bytes in [&b"\x01\x02hi"[..], b"\x82\x00", b"\x81\x82maskhi"] {
            assert!(Framing::WebSocket.take(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(Framing::Lines.take(b"a\nb").unwrap(), Some((Frame::Text(0..1), 2)));
    }

    #[test]
    fn a_number_is_found_where_no_number_was() {
        assert_eq!(number_at(SIGNAL.as_bytes(), 0), None);
        assert_eq!(number_at(b"\"n\":1000", 4), None);
        assert_eq!(number_at(b"\"n\":10000000x", 4), None);
        assert_eq!(find_number(b"no number"), None);
    }
}
