//! What a queued mail becomes when a newer one of its kind comes: of what others can cause again and
//! again, only the first and the latest wait. So a partner that comes and goes does not fill the queue
//! of a client that reads slowly, and the client is still told that it was gone.

use std::{cmp::Ordering, sync::Arc};

use super::{Mail, Queue, Refused};
use crate::{notice::Notice, session::SessionRecord};

/// Negotiations of a session of which refusals wait. A signal of an earlier one can come late.
pub(super) const NEGOTIATIONS: usize = 4;

enum Merged {
    /// They have nothing to do with each other.
    Unrelated,
    /// The newer one has to stay behind this one.
    Ordered,
    /// This one now says what both said.
    Into,
    /// The newer one says what both said, in its own place.
    Replaced,
}

impl Queue {
    /// Merges `newer` into what waits, or gives back what is to wait behind that.
    pub(super) fn merge(&mut self, newer: Mail) -> Option<Mail> {
        if let Mail::Notice(Notice::Changed(record)) = &newer {
            return (!self.merge_record(record)).then_some(newer);
        }
        if let Mail::Refused(refused) = &newer {
            self.drop_void(refused);
        }
        for at in (0..self.mails.len()).rev() {
            match merge(&mut self.mails[at], &newer) {
                Merged::Unrelated => {}
                Merged::Ordered => return Some(newer),
                Merged::Into => return None,
                Merged::Replaced => {
                    if let Some(older) = self.mails.remove(at) {
                        self.others -= older.load();
                    }
                    return Some(newer);
                }
            }
        }
        Some(newer)
    }

    /// Keeps refusals of few negotiations of a session. Signals of earlier ones are void, and so is what
    /// became of them.
    fn drop_void(&mut self, newer: &Refused) {
        let is_other = |mail: &Mail| match mail {
            Mail::Refused(older) => {
                older.session == newer.session && older.negotiation != newer.negotiation
            }
            _ => false,
        };
        if self.mails.iter().filter(|mail| is_other(mail)).count() >= NEGOTIATIONS
            && let Some(oldest) = self.mails.iter().position(is_other)
        {
            self.mails.remove(oldest);
        }
    }

    /// Has the latest record of the same session that waits say what `newer` says, in its place:
    /// signals that came after that are of the negotiation of `newer`, or of one that has ended.
    /// False when `newer` is to wait behind what waits.
    fn merge_record(&mut self, newer: &Arc<SessionRecord>) -> bool {
        let mut mails = self.mails.iter_mut().rev();
        let latest = loop {
            match mails.next() {
                Some(Mail::Notice(Notice::Changed(older))) if same_opening(older, newer) => {
                    break older;
                }
                // A record keeps its place among those that the store gave: they say more than it
                // does. One that comes after an end says that the session is there again.
                Some(Mail::Record { record, .. }) if record.id == newer.id => return false,
                Some(Mail::Notice(Notice::Ended { session, .. })) if *session == newer.id => {
                    return false;
                }
                Some(Mail::Admitted { .. } | Mail::NoticesLost) | None => return false,
                Some(_) => {}
            }
        };
        if newer.revision <= latest.revision {
            return true;
        }
        // A partner that is attached in the latest record only came and went: the client would hear
        // of neither. If it is attached in an earlier one, too, the client hears that it was there.
        let hidden = ends_attachment(latest, newer)
            && !mails.any(|mail| match mail {
                Mail::Notice(Notice::Changed(earlier)) => {
                    same_opening(earlier, latest) && attaches_as_many(earlier, latest)
                }
                _ => false,
            });
        if !hidden {
            latest.clone_from(newer);
        }
        !hidden
    }
}

/// Whether an attachment of `older` is not in `newer` any more.
fn ends_attachment(older: &SessionRecord, newer: &SessionRecord) -> bool {
    let mut both = older.participants.iter().zip(&newer.participants);
    both.any(|(older, newer)| {
        older.connection().is_some()
            && (older.connection(), older.negotiation) != (newer.connection(), newer.negotiation)
    })
}

/// Whether all who are attached in `latest` are attached in `earlier`, too.
fn attaches_as_many(earlier: &SessionRecord, latest: &SessionRecord) -> bool {
    let mut both = earlier.participants.iter().zip(&latest.participants);
    both.all(|(earlier, latest)| earlier.connection().is_some() || latest.connection().is_none())
}

fn merge(older: &mut Mail, newer: &Mail) -> Merged {
    match (older, newer) {
        (Mail::Notice(older), Mail::Notice(newer)) => merge_notices(older, newer),
        (Mail::Notice(Notice::Signal(signal)), Mail::Refused(newer))
            if (&signal.session, signal.negotiation) == (&newer.session, newer.negotiation) =>
        {
            Merged::Ordered
        }
        (Mail::Refused(older), Mail::Refused(newer)) => merge_refused(older, newer),
        (
            Mail::Undelivered { session, negotiation, numbers, code },
            Mail::Undelivered { session: of, negotiation: within, numbers: newer, code: same },
        ) if (&*session, &*negotiation, &*code, numbers.end) == (of, within, same, newer.start) => {
            numbers.end = newer.end;
            Merged::Into
        }
        (Mail::NoticesLost, Mail::NoticesLost) => Merged::Replaced,
        (Mail::Doubt, Mail::Doubt) => Merged::Into,
        _ => Merged::Unrelated,
    }
}

fn merge_notices(older: &mut Notice, newer: &Notice) -> Merged {
    match (older, newer) {
        (Notice::Opened(older), Notice::Opened(newer)) if same_opening(older, newer) => {
            if older.revision < newer.revision {
                older.clone_from(newer);
            }
            Merged::Into
        }
        // A record that comes after the end says that the session is there again.
        (Notice::Ended { session, .. }, Notice::Opened(newer)) if *session == newer.id => {
            Merged::Ordered
        }
        (
            Notice::Ended { session, first_opening, .. },
            Notice::Ended { session: of, first_opening: same, .. },
        ) if (&*session, &*first_opening) == (of, same) => Merged::Into,
        // Behind the record with the connection that has ended. A node numbers its connections.
        (
            Notice::Detached { session, connection, .. },
            Notice::Detached { session: of, connection: newer, .. },
        ) if (&*session, connection.node()) == (of, newer.node()) => {
            match connection.number().cmp(&newer.number()) {
                Ordering::Less => Merged::Replaced,
                Ordering::Equal => Merged::Into,
                Ordering::Greater => Merged::Unrelated,
            }
        }
        (
            Notice::Received { session, negotiation, seq, before, reason, answer },
            Notice::Received {
                session: of,
                negotiation: same,
                seq: from,
                before: to,
                reason: why,
                answer: wanted,
            },
        ) if (&*session, &*negotiation, &*reason) == (of, same, why) => {
            *seq = (*seq).min(*from);
            *before = before.zip(*to).map(|(older, newer)| older.max(newer));
            *answer |= wanted;
            Merged::Into
        }
        (Notice::Contested { .. }, Notice::Contested { .. }) => Merged::Into,
        (Notice::Revoked { issued_before }, Notice::Revoked { issued_before: newer }) => {
            *issued_before = (*issued_before).max(*newer);
            Merged::Into
        }
        _ => Merged::Unrelated,
    }
}

fn merge_refused(older: &mut Refused, newer: &Refused) -> Merged {
    if (&older.session, older.negotiation) != (&newer.session, newer.negotiation) {
        return Merged::Unrelated;
    }
    if older.numbers.end < newer.numbers.end {
        older.numbers.end = newer.numbers.end;
        older.reported = false;
    }
    Merged::Into
}

fn same_opening(older: &SessionRecord, newer: &SessionRecord) -> bool {
    (&older.id, older.opening) == (&newer.id, newer.opening)
}
