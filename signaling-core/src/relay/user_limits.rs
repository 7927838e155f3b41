//! The limits of the users of this node. They outlive a user's connections until nothing that was
//! used counts any more.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{config::Config, connection::UserLimits, id::UserId};

/// Users without a connection whose limits are remembered; beyond that the oldest are forgotten.
const MAX_ABSENT: usize = 65_536;
/// For how long at most.
const MAX_ABSENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct UserTable {
    /// How long limits are remembered after the end of the user's last connection.
    remember: Duration,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    entries: HashMap<UserId, User>,
    /// When users without a connection may be forgotten, the earliest first.
    absent: VecDeque<(Instant, UserId)>,
}

#[derive(Debug)]
struct User {
    limits: Arc<UserLimits>,
    connections: usize,
    /// When the last of them ended.
    left: Instant,
    /// Whether it is in [`Users::absent`]: once, however often the user comes and goes.
    listed: bool,
}

impl UserTable {
    pub(super) fn new(config: &Config) -> Self {
        Self { remember: UserLimits::recovery(config).min(MAX_ABSENCE), users: Mutex::default() }
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of a user who connects. Each call needs its [`Self::disconnected`].
    pub(super) fn connected(&self, user: &UserId, now: Instant) -> Arc<UserLimits> {
        let mut users = self.users();
        users.forget_absent(now, self.remember);
        let entry = users.entries.entry(user.clone()).or_insert_with(|| User {
            limits: Arc::new(UserLimits::new(now)),
            connections: 0,
            left: now,
            listed: false,
        });
        entry.connections += 1;
        entry.limits.clone()
    }

    /// One of the user's connections has ended.
    pub(super) fn disconnected(&self, user: &UserId, now: Instant) {
        let Users { entries, absent } = &mut *self.users();
        if let Some(entry) = entries.get_mut(user) {
            entry.connections -= 1;
            entry.left = now;
            if entry.connections == 0 && !std::mem::replace(&mut entry.listed, true) {
                absent.push_back((now + self.remember, user.clone()));
            }
        }
    }

    /// Forgets users also where nobody connects any more, and gives back the room that they took.
    pub(super) fn forget_absent(&self, now: Instant) {
        let mut users = self.users();
        users.forget_absent(now, self.remember);
        let left = users.entries.len();
        if left < users.entries.capacity() / 8 {
            users.entries.shrink_to(2 * left);
            let listed = users.absent.len();
            users.absent.shrink_to(2 * listed);
        }
    }
}

impl Users {
    /// Forgets the users who have been absent for `remember`.
    fn forget_absent(&mut self, now: Instant, remember: Duration) {
        while let Some((due, _)) = self.absent.front() {
            let too_many = self.absent.len() > MAX_ABSENT;
            if *due > now && !too_many {
                return;
            }
            let Some((_, user)) = self.absent.pop_front() else {
                return;
            };
            let Entry::Occupied(mut entry) = self.entries.entry(user) else {
                continue;
            };
            let due = entry.get().left + remember;
            if entry.get().connections > 0 {
                entry.get_mut().listed = false;
            } else if due > now && !too_many {
                // It came back and left again since it was listed.
                self.absent.push_back((due, entry.key().clone()));
            } else {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
mod tests {
    use super::*;

    fn user(number: usize) -> UserId {
        UserId::new(&format!("user-{number}")).unwrap()
    }

    /// How many connections the user may open at once now.
    fn connects(table: &UserTable, number: usize, now: Instant) -> usize {
        let limits = table.connected(&user(number), now);
        table.disconnected(&user(number), now);
        (0..100).filter(|_| limits.take_connect(now, &Config::default())).count()
    }

    #[test]
    fn limits_outlive_a_connection_and_are_forgotten_when_they_do_not_matter() {
        let (table, now) = (UserTable::new(&Config::default()), Instant::now());
        assert_eq!(connects(&table, 1, now), 20);
        assert_eq!(connects(&table, 1, now), 0);
        let later = now + Duration::from_secs(10);
        assert_eq!(connects(&table, 1, later), 10);
        // Not earlier than all is made up for.
        assert_eq!(connects(&table, 2, now + Duration::from_secs(29)), 20);
        assert_eq!(table.users().entries.len(), 2);
        assert_eq!(connects(&table, 2, now + Duration::from_secs(30)), 1);
        assert_eq!(table.users().entries.len(), 1);
        assert_eq!(table.users().absent.len(), 1);
    }

    #[test]
    fn users_are_forgotten_also_where_nobody_connects_any_more() {
        let (table, now) = (UserTable::new(&Config::default()), Instant::now());
        for number in 0..10_000 {
            drop(table.connected(&user(number), now));
            table.disconnected(&user(number), now);
        }
        table.forget_absent(now + table.remember - Duration::from_millis(1));
        assert_eq!(table.users().entries.len(), 10_000);
        table.forget_absent(now + table.remember);
        let users = table.users();
        assert_eq!((users.entries.len(), users.absent.len()), (0, 0));
        assert!(users.entries.capacity() < 100 && users.absent.capacity() < 100);
    }

    #[test]
    fn a_connected_user_is_not_forgotten() {
        let (table, now) = (UserTable::new(&Config::default()), Instant::now());
        let limits = table.connected(&user(1), now);
        assert_eq!(connects(&table, 1, now), 20);
        let later = now + Duration::from_secs(600);
        assert_eq!(connects(&table, 2, later), 20);
        assert!(Arc::ptr_eq(&limits, &table.connected(&user(1), later)));
        table.disconnected(&user(1), later);
        table.disconnected(&user(1), later);
        assert_eq!(connects(&table, 2, later + Duration::from_secs(600)), 20);
        assert_eq!(table.users().entries.len(), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let (table, now) = (UserTable::new(&Config::default()), Instant::now());
        for number in 0..MAX_ABSENT + 1000 {
            let _ = table.connected(&user(number), now);
            table.disconnected(&user(number), now);
        }
        let users = table.users();
        assert!(users.entries.len() <= MAX_ABSENT + 2, "{}", users.entries.len());
        assert_eq!(users.entries.len(), users.absent.len());
    }
}
