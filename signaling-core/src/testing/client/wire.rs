/// What a frame is (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with the message of the frame before.
    Continuation,
    /// Begins a text.
    Text,
    /// Begins binary data.
    Binary,
    /// Closes.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
    /// Any other number.
    Other(u8),
}

impl Opcode {
    fn number(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
            Self::Other(number) => number & 15,
        }
    }
}

/// A frame that is made by hand, right or wrong (RFC 6455, section 5.2).
#[derive(Debug, Clone)]
pub struct RawFrame {
    /// What it is.
    pub opcode: Opcode,
    /// Whether it is the last of its message.
    pub fin: bool,
    /// The three reserved bits, as a number from 0 to 7.
    pub reserved: u8,
    /// Whether it is masked, as a client's must be.
    pub masked: bool,
    /// What its header says of the length, where that is not the truth.
    pub declared: Option<u64>,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// A frame as it should be: whole and masked.
    pub fn new(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            opcode,
            fin: true,
            reserved: 0,
            masked: true,
            declared: None,
            payload: payload.into(),
        }
    }

    /// The same, as one that others follow.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let length = self.declared.unwrap_or(self.payload.len() as u64);
        let masked = u8::from(self.masked) << 7;
        let first = u8::from(self.fin) << 7 | (self.reserved & 7) << 4 | self.opcode.number();
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(masked | length as u8),
            126..=0xffff => {
                bytes.push(masked | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(MASK);
            let masked = self.payload.iter().zip(MASK.iter().cycle());
            bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_6455_come_out() {
        let hello = RawFrame::new(Opcode::Text, "Hello");
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(hello.to_bytes(), masked);
        let unmasked =
            RawFrame { masked: false, ..RawFrame::new(Opcode::Text, "Hel").unfinished() };
        assert_eq!(unmasked.to_bytes(), [0x01, 0x03, 0x48, 0x65, 0x6c]);
    }
}
