//! What the fuzz targets in `signaling-core/fuzz` call, and what replays their corpora. Each function takes any
//! bytes and panics if what its documentation says does not hold.

use std::{collections::VecDeque, str};

use fred::{
    bytes::Bytes,
    types::{FromValue, Value},
};
use serde_json::value::RawValue;
use signaling_core::{
    bus::{Delivery, Envelope},
    id::{ConnectionId, SessionId},
};

use crate::{
    inbox,
    read::{self, Fields, Read},
    record,
};

/// Fields of a record whose text may be another one when the record is written again: what is left out or replaced
/// when it cannot be read, or follows from other fields.
const NORMALISED: [&str; 10] = [
    "status",
    "client1",
    "client2",
    "lastHeartbeat1",
    "lastHeartbeat2",
    "until1",
    "until2",
    "ended1",
    "ended2",
    "openedAt",
];

/// Target `record`: the hash of a session, one `name: value` on each line.
///
/// - If it is read as a record, what is written of the record is read as the same record.
/// - Each field is written again as the same text, since scripts compare texts, with the exception of those that
///   cannot be read and do not matter, and of those that follow from others.
/// - Each line is an item or unreadable when the lines are read as a list; an item is a number of ours or a connection
///   exactly as this library writes it.
pub fn record(data: &[u8]) {
    let lines: Vec<_> = data.split(|byte| *byte == b'\n').map(Bytes::copy_from_slice).collect();
    check_list(&lines);
    let mut hash = Vec::new();
    for line in &lines {
        let Some(colon) = line.windows(2).position(|bytes| bytes == b": ") else { continue };
        hash.extend([Value::Bytes(line.slice(..colon)), Value::Bytes(line.slice(colon + 2..))]);
    }
    // How `HGETALL` answers in RESP2, and of nothing.
    let Ok(fields) = Fields::from_value(Value::Array(hash)) else { return };
    let session = SessionId::new("fuzz").expect("a session id");
    let Ok(read) = record::decode(&session, &fields) else { return };
    let written = record::encode(&read);
    for (name, text) in &written {
        let same = fields.text(name) == Some(text);
        assert!(same || NORMALISED.contains(name), "{name} became {text:?}: {read:?}");
    }
    assert!(record::changing(&read).iter().all(|field| written.contains(field)));
    let again = record::decode(&session, &written.into_iter().collect());
    assert_eq!(again.ok().as_ref(), Some(&read));
}

fn check_list(lines: &[Bytes]) {
    let numbers = Read::members(lines.to_vec(), |text| {
        Some((read::number(text.as_bytes())?, text.to_owned()))
    });
    assert_eq!(numbers.items.len() + numbers.unreadable.len(), lines.len());
    for (number, text) in numbers.items {
        assert!(
            number <= read::MAX_NUMBER && number.to_string() == text,
            "{text:?} was read as {number}"
        );
    }
    let connections = Read::members(lines.to_vec(), |text| {
        Some((read::exact::<ConnectionId>(text.as_bytes())?, text.to_owned()))
    });
    for (connection, text) in connections.items {
        assert_eq!(format!("{}:{}", connection.node(), connection.number()), text);
    }
}

/// Target `inbox_entry`: the text of one entry of a node's inbox.
///
/// - Each element of a JSON array that is an envelope is delivered, in order, and each run of others is one gap. Any
///   other text is one gap.
/// - An entry without a gap is called readable, any other not.
/// - What is delivered and written again is delivered as the same.
pub fn inbox_entry(data: &[u8]) {
    let (readable, delivered) = deliver(data);
    assert_eq!(readable, !delivered.contains(&Delivery::Gap));
    let elements = serde_json::from_slice::<Vec<&RawValue>>(data).unwrap_or_default();
    let mut expected: Vec<_> = elements
        .into_iter()
        .map(|element| {
            serde_json::from_str(element.get()).map_or(Delivery::Gap, Delivery::Envelope)
        })
        .collect();
    expected.dedup_by(|a, b| *a == Delivery::Gap && *b == Delivery::Gap);
    if expected.is_empty() && !readable {
        expected.push(Delivery::Gap);
    }
    assert_eq!(delivered, expected);
    let envelopes: Vec<Envelope> = delivered
        .into_iter()
        .filter_map(|delivery| match delivery {
            Delivery::Envelope(envelope) => Some(envelope),
            Delivery::Gap => None,
        })
        .collect();
    let written = serde_json::to_string(&envelopes).expect("envelopes are written");
    let again = envelopes.into_iter().map(Delivery::Envelope).collect();
    assert_eq!(deliver(written.as_bytes()), (true, again));
}

fn deliver(text: &[u8]) -> (bool, VecDeque<Delivery>) {
    let mut pending = VecDeque::new();
    (inbox::deliver(text, &mut pending), pending)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use signaling_core::testing::fuzz::replay;

    use super::*;

    fn replay_corpus(target: &str, check: fn(&[u8])) {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../signaling-core/fuzz/corpus");
        replay(&corpora.join(target), check);
    }

    #[test]
    fn corpus_of_record_is_replayed() {
        replay_corpus("record", record);
    }

    #[test]
    fn corpus_of_inbox_entry_is_replayed() {
        replay_corpus("inbox_entry", inbox_entry);
    }
}
