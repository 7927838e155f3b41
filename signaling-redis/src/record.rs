//! A session's record as a hash. The first seven fields are for everybody to read; the others are
//! bookkeeping.

use std::collections::HashMap;

use signaling_core::{
    id::{IdError, SessionId, UserId},
    session::{Attachment, Participant, Presence, Role, SessionRecord},
    time::Timestamp,
};

/// A hash, as it comes from the server.
pub(crate) type Fields = HashMap<String, String>;

/// The fields of one participant.
#[derive(Debug)]
struct Names {
    id: &'static str,
    ws: &'static str,
    last_heartbeat: &'static str,
    epoch: &'static str,
    since: &'static str,
    until: &'static str,
}

const INITIATOR: Names = Names {
    id: "participant1Id",
    ws: "participant1Ws",
    last_heartbeat: "lastHeartbeat1",
    epoch: "epoch1",
    since: "since1",
    until: "until1",
};

const RESPONDER: Names = Names {
    id: "participant2Id",
    ws: "participant2Ws",
    last_heartbeat: "lastHeartbeat2",
    epoch: "epoch2",
    since: "since2",
    until: "until2",
};

fn names(role: Role) -> &'static Names {
    match role {
        Role::Initiator => &INITIATOR,
        Role::Responder => &RESPONDER,
    }
}

/// The number of a participant in field names.
pub(crate) fn number(role: Role) -> &'static str {
    match role {
        Role::Initiator => "1",
        Role::Responder => "2",
    }
}

/// A hash that is no record of a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("field {0} is no number")]
    Number(&'static str, #[source] std::num::ParseIntError),
    #[error("field {0} is no id")]
    Id(&'static str, #[source] IdError),
}

/// What a change of the record writes: all fields but those that never change and the heartbeats.
pub(crate) fn changing(record: &SessionRecord) -> Vec<(&'static str, String)> {
    let mut fields = vec![("revision", record.revision.to_string())];
    let mut others = vec![("status", record.status().as_str().to_owned())];
    for role in Role::BOTH {
        let (participant, names) = (record.participant(role), names(role));
        let (ws, since, until) = match &participant.presence {
            Presence::Attached(Attachment { connection, since }) => {
                (connection.to_string(), since.to_string(), String::new())
            }
            Presence::Absent { until } => (String::new(), String::new(), millis(*until)),
        };
        fields.push((names.ws, ws));
        others.extend([
            (names.since, since),
            (names.until, until),
            (names.epoch, participant.epoch.to_string()),
        ]);
    }
    fields.extend(others);
    fields
}

/// All fields, those first that heartbeats look at: a server looks for a field of a small hash from
/// the first.
pub(crate) fn encode(record: &SessionRecord) -> Vec<(&'static str, String)> {
    let mut fields = vec![("opening", record.opening.to_string())];
    let (mut beats, mut ids) = (Vec::new(), Vec::new());
    for role in Role::BOTH {
        let (participant, names) = (record.participant(role), names(role));
        let last_heartbeat = participant.last_heartbeat.map(millis).unwrap_or_default();
        beats.push((names.last_heartbeat, last_heartbeat));
        ids.push((names.id, participant.user.as_str().to_owned()));
    }
    fields.extend(beats);
    fields.extend(changing(record));
    fields.extend(ids);
    fields
}

/// The record in `fields`.
pub(crate) fn decode(session: &SessionId, fields: &Fields) -> Result<SessionRecord, RecordError> {
    let participants =
        [participant(fields, Role::Initiator)?, participant(fields, Role::Responder)?];
    let (opening, revision) = (number_in(fields, "opening")?, number_in(fields, "revision")?);
    Ok(SessionRecord::stored(session.clone(), opening, revision, participants))
}

fn participant(fields: &Fields, role: Role) -> Result<Participant, RecordError> {
    let names = names(role);
    let user = UserId::new(text(fields, names.id)?);
    let user = user.map_err(|error| RecordError::Id(names.id, error))?;
    let presence = match text(fields, names.ws)? {
        "" => Presence::Absent { until: Timestamp::from_millis(number_in(fields, names.until)?) },
        ws => Presence::Attached(Attachment {
            connection: ws.parse().map_err(|error| RecordError::Id(names.ws, error))?,
            since: number_in(fields, names.since)?,
        }),
    };
    let last_heartbeat = match text(fields, names.last_heartbeat)? {
        "" => None,
        _ => Some(Timestamp::from_millis(number_in(fields, names.last_heartbeat)?)),
    };
    let epoch = number_in(fields, names.epoch)?;
    Ok(Participant::stored(user, presence, epoch, last_heartbeat))
}

fn text<'a>(fields: &'a Fields, name: &'static str) -> Result<&'a str, RecordError> {
    fields.get(name).map(String::as_str).ok_or(RecordError::Missing(name))
}

fn number_in(fields: &Fields, name: &'static str) -> Result<u64, RecordError> {
    text(fields, name)?.parse().map_err(|error| RecordError::Number(name, error))
}

fn millis(at: Timestamp) -> String {
    at.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use signaling_core::id::{ConnectionId, NodeId};

    use super::*;

    fn record() -> SessionRecord {
        let [ann, bob] = ["ann", "bob"].map(|name| UserId::new(name).unwrap());
        let until = Timestamp::from_millis(1_763_841_660_000);
        SessionRecord::open(SessionId::new("abc").unwrap(), u64::MAX, ann, bob, until).unwrap()
    }

    fn fields(record: &SessionRecord) -> Fields {
        encode(record).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn connection(number: u64) -> ConnectionId {
        ConnectionId::new(NodeId::new("n").unwrap(), number)
    }

    #[test]
    fn a_record_comes_out_as_it_went_in() {
        let waiting = record();
        let attached = waiting.attach(Role::Initiator, &connection(1), 7).unwrap();
        let mut active = attached.attach(Role::Responder, &connection(2), 8).unwrap();
        active.participants[1].last_heartbeat = Some(Timestamp::from_millis(5));
        let left = active
            .detach(&connection(1), Timestamp::from_millis(9), Duration::from_secs(60))
            .unwrap();
        for record in [waiting, attached, active, left] {
            assert_eq!(decode(&record.id, &fields(&record)).unwrap(), record);
        }
    }

    #[test]
    fn the_seven_fields_say_what_other_services_expect() {
        let mut record = record().attach(Role::Responder, &connection(2), 8).unwrap();
        record.participants[1].last_heartbeat = Some(Timestamp::from_millis(1_763_841_601_500));
        let fields = fields(&record);
        for (name, value) in [
            ("participant1Id", "ann"),
            ("participant2Id", "bob"),
            ("participant1Ws", ""),
            ("participant2Ws", "n:2"),
            ("lastHeartbeat1", ""),
            ("lastHeartbeat2", "1763841601500"),
            ("status", "waiting"),
        ] {
            assert_eq!(fields[name], value, "{name}");
        }
    }

    #[test]
    fn a_hash_that_is_no_record_is_an_error() {
        let whole = fields(&record());
        for name in whole.keys() {
            if ["status", "since1", "since2"].contains(&name.as_str()) {
                continue;
            }
            let mut broken = whole.clone();
            broken.remove(name);
            assert!(decode(&record().id, &broken).is_err(), "without {name}");
            broken.insert(name.clone(), "\u{7}".to_owned());
            assert!(decode(&record().id, &broken).is_err(), "{name} is nonsense");
        }
    }
}
