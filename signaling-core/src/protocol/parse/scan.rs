//! Scanner for the JSON of client messages (RFC 8259), as clients write it: an object of at least one
//! field without bytes below 0x20, so that spaces are the only whitespace; no field name, at any
//! level, has an escape; no value nests arrays and objects deeper than [`ClientMessage::MAX_DEPTH`];
//! no field of the protocol is given twice. Any other text, valid JSON or not, is left to serde_json.

use memchr::memchr2;

use super::{ClientMessage, Fields};

/// The fields of a message; none where serde_json has to look.
pub(super) fn fields(text: &str) -> Option<Fields<'_>> {
    // Forbidden in strings, and from here on the only space between values is the space. The whole
    // text is looked at, since that takes less time than stopping early.
    if text.bytes().fold(false, |found, byte| found | (byte < b' ')) {
        return None;
    }
    let mut scan = Scan { text, at: 0 };
    let mut fields = Fields::default();
    scan.skip_spaces();
    scan.expect(b'{')?;
    loop {
        let name = scan.name()?;
        fields.set(name, scan.value()?).ok()?;
        scan.skip_spaces();
        match scan.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scan.skip_spaces();
    (scan.at == text.len()).then_some(fields)
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// The arrays and objects around a place, as bits: 1 for an object, the innermost lowest.
#[derive(Default)]
struct Around {
    objects: u64,
    depth: usize,
}

impl Around {
    fn enter(&mut self, is_object: bool) -> Option<()> {
        const { assert!(ClientMessage::MAX_DEPTH <= u64::BITS as usize) };
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(is_object);
        (self.depth <= ClientMessage::MAX_DEPTH).then_some(())
    }

    fn leave(&mut self, is_object: bool) -> Option<()> {
        let fits = self.depth > 0 && self.is_object() == is_object;
        self.depth -= usize::from(fits);
        self.objects >>= 1;
        fits.then_some(())
    }

    fn is_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// A field's name, up to its value.
    fn name(&mut self) -> Option<&'a str> {
        self.skip_spaces();
        self.expect(b'"')?;
        let from = self.at;
        let escapes = self.string()?;
        let name = self.text.get(from..self.at - 1).filter(|_| !escapes);
        self.skip_spaces();
        self.expect(b':')?;
        name
    }

    /// Any value, as it is written.
    fn value(&mut self) -> Option<&'a str> {
        self.skip_spaces();
        let (from, mut around) = (self.at, Around::default());
        loop {
            self.skip_spaces();
            match self.next()? {
                b'"' => drop(self.string()?),
                b'{' => {
                    around.enter(true)?;
                    self.skip_spaces();
                    if self.peek()? != b'}' {
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    around.enter(false)?;
                    self.skip_spaces();
                    if self.peek()? != b']' {
                        continue;
                    }
                }
                b't' => self.word("rue")?,
                b'f' => self.word("alse")?,
                b'n' => self.word("ull")?,
                b'-' => {
                    let digit = self.next()?;
                    self.number(digit)?;
                }
                digit => self.number(digit)?,
            }
            // After a value: ends, and then another value or nothing.
            loop {
                if around.depth == 0 {
                    return self.text.get(from..self.at);
                }
                self.skip_spaces();
                match self.next()? {
                    b',' => break,
                    b'}' => around.leave(true)?,
                    b']' => around.leave(false)?,
                    _ => return None,
                }
            }
            if around.is_object() {
                self.name()?;
            }
        }
    }

    /// A string after its first quotation mark, to the other one; whether it has escapes.
    fn string(&mut self) -> Option<bool> {
        let mut escapes = false;
        loop {
            // Escapes come in pairs, at the ends of lines.
            if self.peek()? != b'\\' {
                self.at += memchr2(b'"', b'\\', self.rest())?;
            }
            if self.next()? == b'"' {
                return Some(escapes);
            }
            escapes = true;
            match self.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' => {
                    let digits = self.rest().get(..4)?;
                    self.at += digits.iter().all(u8::is_ascii_hexdigit).then_some(4)?;
                }
                _ => return None,
            }
        }
    }

    fn word(&mut self, rest: &str) -> Option<()> {
        self.at += self.rest().starts_with(rest.as_bytes()).then_some(rest.len())?;
        Some(())
    }

    /// A number after its sign and its first digit.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// One digit at least.
    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        self.skip_digits();
        (self.at > from).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages as clients write them, and what they may well have in them.
    const MESSAGES: [&str; 8] = [
        r#"{"type":"offer","sessionId":"s","sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"}"#,
        r#"{"type":"answer","sessionId":"s","sdp":{"type":"answer","sdp":"v=0\r\n"}}"#,
        r#"{"type":"ice-candidate","sessionId":"s","candidate":{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}}"#,
        r#"{ "type" : "ice-candidate", "candidate" : null, "sessionId" : "s" }"#,
        r#"{"type":"heartbeat","sessionId":"s","id":-12.5e+3}"#,
        r#"{"type":"heartbeat"}"#,
        r#"{"type":"leave","sessionId":"s","x":[{},[],[1,true,{"y":false}],0,-0.1,1E9,"\u00e9\"é"]}"#,
        r#"{"type":"offer","sessionId":"s","sdp":{"a":[[[{"b":{}}]]]},"":""}"#,
    ];

    #[test]
    fn what_clients_write_is_read_the_quick_way() {
        for text in MESSAGES {
            assert_eq!(fields(text), serde_json::from_str(text).ok(), "{text}");
            assert!(fields(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_read_the_quick_way_is_what_serde_json_reads() {
        let pieces = [
            "\"",
            "\\",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "0",
            "1",
            "-",
            ".",
            "e",
            "E",
            "+",
            "t",
            "null",
            "true",
            " ",
            "\n",
            "\u{1f}",
            "\u{7f}",
            "é",
            "\\u12",
            "\\ud800",
            "\\x",
            "\"id\":1,",
            "\"type\":\"x\",",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let (mut read, mut left) = (0, 0);
        for _ in 0..100_000 {
            let mut text = random.choice(MESSAGES).unwrap_or_default().to_owned();
            for _ in 0..random.usize(1..4) {
                let places: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
                let Some(at) = random.choice(&places).copied() else { break };
                if random.bool() {
                    text.remove(at);
                }
                if random.bool() {
                    text.insert_str(at.min(text.len()), random.choice(pieces).unwrap_or_default());
                }
            }
            match fields(&text) {
                Some(fields) => {
                    read += 1;
                    assert_eq!(serde_json::from_str(&text).ok(), Some(fields), "{text}");
                }
                None => left += 1,
            }
        }
        assert!(read > 10_000 && left > 10_000, "{read} read, {left} left");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"type":"offer","sdp":{open}1{close}}}"#)
        };
        assert!(fields(&nested(ClientMessage::MAX_DEPTH)).is_some());
        assert!(fields(&nested(ClientMessage::MAX_DEPTH + 1)).is_none());
    }
}
