//! A session's record as a hash. The first seven fields are for everybody to read; the others are
//! bookkeeping.

use std::num::NonZeroU64;

use signaling_core::{
    id::{IdError, SessionId, UserId},
    reason::PartnerReason,
    session::{Metadata, MetadataError, Participant, Presence, Role, SessionRecord},
    time::Timestamp,
};

use crate::read::{self, Fields};

/// The fields of one participant.
#[derive(Debug)]
pub(crate) struct Names {
    id: &'static str,
    pub(crate) ws: &'static str,
    pub(crate) last_heartbeat: &'static str,
    epoch: &'static str,
    negotiation: &'static str,
    client: &'static str,
    until: &'static str,
    ended: &'static str,
}

const INITIATOR: Names = Names {
    id: "participant1Id",
    ws: "participant1Ws",
    last_heartbeat: "lastHeartbeat1",
    epoch: "epoch1",
    negotiation: "negotiation1",
    client: "client1",
    until: "until1",
    ended: "ended1",
};

const RESPONDER: Names = Names {
    id: "participant2Id",
    ws: "participant2Ws",
    last_heartbeat: "lastHeartbeat2",
    epoch: "epoch2",
    negotiation: "negotiation2",
    client: "client2",
    until: "until2",
    ended: "ended2",
};

/// The names of the fields of the participant in `role`.
pub(crate) fn names(role: Role) -> &'static Names {
    match role {
        Role::Initiator => &INITIATOR,
        Role::Responder => &RESPONDER,
    }
}

/// There only where a host gave it, and written only with a new record.
const METADATA: &str = "metadata";

/// Written only with a new record.
const OPENED_AT: &str = "openedAt";

/// A hash that is no record of a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("field {0} is missing or no UTF-8")]
    Missing(&'static str),
    #[error("field {0} is no number of ours")]
    Number(&'static str),
    #[error("both participants are the same user")]
    SameUser,
    #[error("field {0} is no id")]
    Id(&'static str, #[source] IdError),
    #[error("field {0} is no metadata")]
    Metadata(&'static str, #[source] MetadataError),
}

/// What a change of the record writes: all fields but those that never change and the heartbeats.
pub(crate) fn changing(record: &SessionRecord) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("revision", record.revision.to_string()),
        ("negotiation", record.negotiation.to_string()),
    ];
    let mut others = vec![("status", record.status().as_str().to_owned())];
    for role in Role::BOTH {
        let (participant, names) = (record.participant(role), names(role));
        let (ws, until) = match &participant.presence {
            Presence::Attached(connection) => (connection.to_string(), String::new()),
            Presence::Absent { until } => (String::new(), millis(*until)),
        };
        let negotiation = participant.negotiation.map(|negotiation| negotiation.to_string());
        fields.push((names.ws, ws));
        others.extend([
            (names.negotiation, negotiation.unwrap_or_default()),
            (names.client, participant.client.map(|client| client.to_string()).unwrap_or_default()),
            (names.until, until),
            (names.epoch, participant.epoch.to_string()),
            (names.ended, participant.ended.map(PartnerReason::as_str).unwrap_or_default().into()),
        ]);
    }
    fields.extend(others);
    fields
}

/// All fields, those first that heartbeats look at: a server looks for a field of a small hash from
/// the first.
pub(crate) fn encode(record: &SessionRecord) -> Vec<(&'static str, String)> {
    let mut fields = vec![("opening", record.opening.to_string())];
    let openings = [
        ("firstOpening", record.first_opening.to_string()),
        ("reopened", record.reopened.to_string()),
    ];
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
    fields.extend(openings);
    fields.extend(record.opened_at.map(|at| (OPENED_AT, millis(at))));
    fields.extend(record.metadata.iter().map(|metadata| (METADATA, metadata.as_str().to_owned())));
    fields
}

/// The record in `fields`. Heartbeats and reasons that cannot be read count as missing: the next ones
/// replace them.
pub(crate) fn decode(session: &SessionId, fields: &Fields) -> Result<SessionRecord, RecordError> {
    let participants =
        [participant(fields, Role::Initiator)?, participant(fields, Role::Responder)?];
    if participants[0].user == participants[1].user {
        return Err(RecordError::SameUser);
    }
    let opening = random(fields, "opening")?;
    let revision = number_in(fields, "revision")?;
    let mut record = SessionRecord::stored(session.clone(), opening, revision, participants);
    record.first_opening = random(fields, "firstOpening")?;
    record.reopened = number_in(fields, "reopened")?;
    record.negotiation = random(fields, "negotiation")?;
    if fields.raw(METADATA).is_some() {
        let metadata = Metadata::new(text(fields, METADATA)?);
        record.metadata = Some(metadata.map_err(|e| RecordError::Metadata(METADATA, e))?);
    }
    // Nothing depends on it.
    record.opened_at = number_in(fields, OPENED_AT).ok().map(Timestamp::from_millis);
    Ok(record)
}

fn participant(fields: &Fields, role: Role) -> Result<Participant, RecordError> {
    let names = names(role);
    let user = UserId::new(text(fields, names.id)?);
    let user = user.map_err(|error| RecordError::Id(names.id, error))?;
    let presence = match text(fields, names.ws)? {
        "" => Presence::Absent { until: Timestamp::from_millis(number_in(fields, names.until)?) },
        ws => Presence::Attached(
            read::exact(ws.as_bytes()).ok_or(RecordError::Id(names.ws, IdError::Connection))?,
        ),
    };
    let last_heartbeat = number_in(fields, names.last_heartbeat).ok().map(Timestamp::from_millis);
    let epoch = number_in(fields, names.epoch)?;
    let mut participant = Participant::stored(user, presence, epoch, last_heartbeat);
    participant.negotiation = match text(fields, names.negotiation)? {
        "" => None,
        _ => Some(random(fields, names.negotiation)?),
    };
    // Without it, the client begins a new negotiation.
    participant.client = random(fields, names.client).ok().and_then(NonZeroU64::new);
    // A newer version may know reasons that this one does not.
    let ended = fields.text(names.ended).unwrap_or_default();
    participant.ended = PartnerReason::ALL.into_iter().find(|reason| reason.as_str() == ended);
    Ok(participant)
}

fn text<'a>(fields: &'a Fields, name: &'static str) -> Result<&'a str, RecordError> {
    fields.text(name).ok_or(RecordError::Missing(name))
}

/// A random number, which may be of more digits than other numbers.
fn random(fields: &Fields, name: &'static str) -> Result<u64, RecordError> {
    read::exact(text(fields, name)?.as_bytes()).ok_or(RecordError::Number(name))
}

fn number_in(fields: &Fields, name: &'static str) -> Result<u64, RecordError> {
    read::number(text(fields, name)?.as_bytes()).ok_or(RecordError::Number(name))
}

fn millis(at: Timestamp) -> String {
    at.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use signaling_core::id::{ConnectionId, NodeId};

    use super::*;

    fn record() -> SessionRecord {
        let [ann, bob] = ["ann", "bob"].map(|name| UserId::new(name).unwrap());
        let until = Timestamp::from_millis(1_763_841_660_000);
        SessionRecord::open(SessionId::new("abc").unwrap(), u64::MAX, ann, bob, until).unwrap()
    }

    fn fields(record: &SessionRecord) -> HashMap<String, String> {
        encode(record).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn decode(
        session: &SessionId,
        fields: &HashMap<String, String>,
    ) -> Result<SessionRecord, RecordError> {
        super::decode(session, &fields.clone().into_iter().collect())
    }

    fn connection(number: u64) -> ConnectionId {
        ConnectionId::new(NodeId::new("n").unwrap(), number)
    }

    #[test]
    fn a_record_comes_out_as_it_went_in() {
        let waiting = record();
        let mut marked = record();
        marked.metadata = Some(Metadata::new("{\"room\":\"é\"}\n").unwrap());
        marked.opened_at = Some(Timestamp::from_millis(1_763_841_600_000));
        let mut unsaid = record();
        unsaid.metadata = Some(Metadata::new("").unwrap());
        let attached = waiting.attach(Role::Initiator, &connection(1), 7, None, 100).unwrap();
        let mut active = attached.attach(Role::Responder, &connection(2), 8, None, 200).unwrap();
        active = active.with_client(Role::Responder, NonZeroU64::new(u64::MAX));
        active.participants[1].last_heartbeat = Some(Timestamp::from_millis(5));
        let left = active
            .detach(
                &connection(1),
                PartnerReason::Lost,
                Timestamp::from_millis(9),
                Duration::from_secs(60),
            )
            .unwrap();
        let reopened = active.reopen(9, Timestamp::from_millis(60_009));
        for record in [waiting, marked, unsaid, attached, active.clone(), left, reopened] {
            assert_eq!(decode(&record.id, &fields(&record)).unwrap(), record);
        }
        let (now, abandon_after) = (Timestamp::from_millis(9), Duration::from_secs(60));
        for reason in PartnerReason::ALL {
            let left = active.detach(&connection(1), reason, now, abandon_after).unwrap();
            let read = decode(&left.id, &fields(&left)).unwrap();
            assert_eq!(read.participants[0].ended, Some(reason));
            assert_eq!(read, left);
        }
    }

    #[test]
    fn a_record_of_an_older_or_a_newer_version_is_read() {
        let attached = record().attach(Role::Initiator, &connection(1), 7, None, 100).unwrap();
        let (now, abandon_after) = (Timestamp::from_millis(9), Duration::from_secs(60));
        let left =
            attached.detach(&connection(1), PartnerReason::Left, now, abandon_after).unwrap();
        let mut fields = fields(&left);
        assert_eq!((&*fields["ended1"], &*fields["ended2"]), ("left", ""));
        fields.insert("ended1".to_owned(), "of another kind".to_owned());
        let newer = decode(&left.id, &fields).unwrap();
        fields.remove("ended1");
        fields.remove("ended2");
        fields.remove("client1");
        fields.remove("client2");
        let older = decode(&left.id, &fields).unwrap();
        for read in [newer, older] {
            assert_eq!(read.participants[0].ended, None);
            assert!(read.same_state(&left));
        }
    }

    #[test]
    fn the_seven_fields_say_what_other_services_expect() {
        let mut record = record().attach(Role::Responder, &connection(2), 8, None, 200).unwrap();
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
        let mut marked = record();
        marked.metadata = Some(Metadata::new("x").unwrap());
        let mut overfull = fields(&marked);
        overfull.insert("metadata".to_owned(), "x".repeat(Metadata::MAX_BYTES + 1));
        assert!(decode(&marked.id, &overfull).is_err());
        let whole = fields(&record());
        for name in whole.keys() {
            let ignored = ["status", "ended1", "ended2", "client1", "client2"];
            let replaced_soon = ["lastHeartbeat1", "lastHeartbeat2"];
            if ignored.iter().chain(&replaced_soon).any(|other| other == name) {
                continue;
            }
            let mut broken = whole.clone();
            broken.remove(name);
            assert!(decode(&record().id, &broken).is_err(), "without {name}");
            broken.insert(name.clone(), "\u{7}".to_owned());
            assert!(decode(&record().id, &broken).is_err(), "{name} is nonsense");
            for number in ["007", "+7", "99999999999999999999", "9007199254740993"] {
                broken.insert(name.clone(), number.to_owned());
                let read = decode(&record().id, &broken);
                let random =
                    ["opening", "firstOpening", "negotiation", "negotiation1", "negotiation2"];
                let is_random = random.iter().any(|random| random == name);
                let may_be = name.ends_with("Id") || is_random && number.len() == 16;
                assert!(read.is_err() || may_be, "{name} is {number}: {read:?}");
            }
        }
        let mut alone = whole;
        alone.insert("participant2Id".to_owned(), "ann".to_owned());
        assert!(decode(&record().id, &alone).is_err());
    }

    #[test]
    fn a_heartbeat_that_cannot_be_read_is_none() {
        let mut broken = fields(&record());
        for value in ["?", "-1", "99999999999999999999"] {
            broken.insert("lastHeartbeat1".to_owned(), value.to_owned());
            assert_eq!(decode(&record().id, &broken).unwrap(), record());
        }
        broken.remove("lastHeartbeat1");
        assert_eq!(decode(&record().id, &broken).unwrap(), record());
    }
}
