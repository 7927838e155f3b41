//! The Lua scripts: one purpose each, one slot each, and done twice is done once.

use fred::util::sha1_hash;

/// A script and the name that a server knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) source: &'static str,
    pub(crate) hash: String,
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Script,)*
        }

        impl Scripts {
            pub(crate) fn new() -> Self {
                Self {
                    $($name: Script::new(include_str!(concat!("lua/", stringify!($name), ".lua"))),)*
                }
            }
        }
    };
}

scripts!(
    add_counts,
    add_deadlines,
    claim_deadlines,
    connect_user,
    delete_session,
    discard_misplaced,
    discard_session,
    disconnect_user,
    hold_connection,
    join_user,
    keep_user,
    leave_user,
    open_inbox,
    open_session,
    publish,
    quarantine_session,
    record_heartbeats,
    renew_lease,
    replace_session,
    revoke_user,
    trim_inbox,
);

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, hash: sha1_hash(source) }
    }
}
