use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{IceServer, IceServerError, IceServerProvider, IceServers, ProviderError};
use crate::{id::UserId, time::Timestamp};

/// TURN servers that share a secret with the relay, and credentials of limited time for each user:
/// draft-uberti-behave-turn-rest-00, 2.2, which is coturn's `use-auth-secret`.
///
/// The username is the second of the Unix epoch in which the credentials expire, a colon, and the
/// user; the credential is base64(HMAC-SHA1(secret, username)). TURN over UDP and TCP carries the
/// username in the clear, and with it the user's id.
///
/// ```
/// use std::sync::Arc;
///
/// use signaling_core::{
///     Relay,
///     auth::Authenticator,
///     ice::{IceServer, TurnServers},
/// };
///
/// # async fn example(
/// #     authenticator: impl Authenticator,
/// #     secret: &str,
/// # ) -> Result<Relay, Box<dyn std::error::Error>> {
/// let turn = TurnServers::new(["turn:turn.example", "turns:turn.example"], secret)?
///     .and(IceServer::stun(["stun:turn.example"])?);
/// let relay = Relay::builder(authenticator).ice_servers(Arc::new(turn)).start().await?;
/// # Ok(relay) }
/// ```
///
/// A user id made of `A-Z a-z 0-9 . _ - @ + = / |` stands there as it is. Any other is written in
/// base64url behind a `~`: coturn refuses usernames with a space, a quote or a backslash, and what
/// a second colon means, each server decides for itself.
#[derive(Clone)]
pub struct TurnServers {
    /// With credentials of nobody.
    servers: IceServer,
    secret: Arc<[u8]>,
    life: Duration,
    others: Vec<IceServer>,
}

/// What no TURN server could be used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// The URLs do not do.
    #[error(transparent)]
    Server(#[from] IceServerError),
    /// The secret is empty: anybody could make credentials.
    #[error("the secret is empty")]
    Secret,
    /// The credentials would live for less than [`TurnServers::MIN_LIFE`].
    #[error("credentials must live for two minutes at least")]
    Life,
}

impl TurnServers {
    /// How long credentials live unless told otherwise: 12 hours. Longer than a call, since some
    /// servers look at every refresh of an allocation whether the credentials still hold; and what
    /// is stolen is of no use the next day.
    pub const DEFAULT_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
    /// The shortest life: two minutes, since nobody is given credentials for less than one.
    pub const MIN_LIFE: Duration = Duration::from_secs(120);

    /// The servers at `urls`, all with this secret: coturn's `static-auth-secret`.
    ///
    /// # Errors
    ///
    /// When there is no URL, one is not of a TURN or STUN server, or the secret is empty.
    pub fn new<I>(urls: I, secret: impl AsRef<[u8]>) -> Result<Self, TurnError>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let servers = IceServer::turn(urls, "nobody", "nothing")?;
        let secret = secret.as_ref();
        if secret.is_empty() {
            return Err(TurnError::Secret);
        }
        Ok(Self { servers, secret: secret.into(), life: Self::DEFAULT_LIFE, others: Vec::new() })
    }

    /// How long credentials live, in whole seconds. Default: [`Self::DEFAULT_LIFE`].
    ///
    /// # Errors
    ///
    /// When it is shorter than [`Self::MIN_LIFE`].
    pub fn life(mut self, life: Duration) -> Result<Self, TurnError> {
        if life < Self::MIN_LIFE {
            return Err(TurnError::Life);
        }
        self.life = life;
        Ok(self)
    }

    /// Has clients told of `server` as well, ahead of the TURN servers: of STUN, as a rule.
    #[must_use]
    pub fn and(mut self, server: IceServer) -> Self {
        self.others.push(server);
        self
    }

    /// The credentials of `user` that expire in the second `expiry` of the Unix epoch.
    fn credentials(&self, user: &UserId, expiry: u64) -> Result<IceServer, IceServerError> {
        let username = format!("{expiry}:{}", Name(user));
        // HMAC takes keys of any length (RFC 2104, 2).
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&self.secret) else {
            return Err(IceServerError::Credential);
        };
        mac.update(username.as_bytes());
        let credential = STANDARD.encode(mac.finalize().into_bytes());
        self.servers.with_credentials(username, credential)
    }
}

/// A user id as every TURN server takes it, and no two alike.
struct Name<'a>(&'a UserId);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.as_str();
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-@+=/|".contains(&c);
        match id.bytes().all(plain) {
            true => f.write_str(id),
            false => write!(f, "~{}", URL_SAFE_NO_PAD.encode(id)),
        }
    }
}

impl fmt::Debug for TurnServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServers")
            .field("urls", &self.servers.urls())
            .field("life", &self.life)
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl IceServerProvider for TurnServers {
    async fn ice_servers(
        &self,
        user: &UserId,
        now: Timestamp,
    ) -> Result<IceServers, ProviderError> {
        let expiry = now.after(self.life).as_millis() / 1000;
        let turn = self.credentials(user, expiry).map_err(ProviderError::unavailable)?;
        let servers: Vec<_> = self.others.iter().cloned().chain([turn]).collect();
        Ok(IceServers::new(servers).expiring(Timestamp::from_millis(expiry.saturating_mul(1000))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_999);

    fn turn() -> TurnServers {
        TurnServers::new(["turn:turn.example", "turns:turn.example"], "north").unwrap()
    }

    async fn username(user: &str) -> String {
        let servers = turn().ice_servers(&UserId::new(user).unwrap(), NOW).await.unwrap();
        let username = servers.servers[0].username().unwrap().to_owned();
        assert!(username.len() <= IceServer::MAX_USERNAME_BYTES, "{}", username.len());
        username
    }

    /// The credential is what `printf %s 1700043200:ann | openssl dgst -sha1 -hmac north` has.
    #[tokio::test]
    async fn credentials_are_those_of_the_rest_scheme() {
        let stun = IceServer::stun(["stun:stun.example"]).unwrap();
        let turn = turn().and(stun.clone());
        let ann = UserId::new("ann").unwrap();
        let told = turn.ice_servers(&ann, NOW).await.unwrap();
        let urls = ["turn:turn.example", "turns:turn.example"];
        let own = IceServer::turn(urls, "1700043200:ann", "Y815wedbqVOoE/qJ5d8csukTVCk=");
        assert_eq!(told.servers[..], [stun, own.unwrap()]);
        assert_eq!(told.expires_at, Some(Timestamp::from_millis(1_700_043_200_000)));
    }

    #[tokio::test]
    async fn credentials_live_as_long_as_they_are_to() {
        let turn = turn().life(Duration::from_secs(3600)).unwrap();
        let told = turn.ice_servers(&UserId::new("ann").unwrap(), NOW).await.unwrap();
        assert_eq!(told.servers[0].username(), Some("1700003600:ann"));
        assert_eq!(told.expires_at, Some(Timestamp::from_millis(1_700_003_600_000)));
    }

    #[tokio::test]
    async fn a_user_id_of_harmless_characters_stands_as_it_is() {
        for user in ["ann", "ann.b@example.org", "oauth2|1+2=3/4", "A_1-b"] {
            assert_eq!(username(user).await, format!("1700043200:{user}"));
        }
    }

    #[tokio::test]
    async fn any_other_user_id_is_encoded_and_stays_itself() {
        assert_eq!(username("joe:1 \"x").await, "1700043200:~am9lOjEgIng");
        let strange =
            ["a:b", "1:2", ":", "a b", "o'brien", "a\\b", "~YTpi", "Zoë", "日本", "a%3Ab"];
        let mut seen = BTreeSet::new();
        for user in strange.into_iter().chain([&*"é".repeat(128), &*"'".repeat(256), "YTpi"]) {
            let username = username(user).await;
            assert_eq!(username.matches(':').count(), 1, "{username}");
            assert!(seen.insert(username), "{user} is somebody else's name");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(TurnServers::new(["turn:a"], "").unwrap_err(), TurnError::Secret);
        let url = TurnServers::new(["turn.example"], "north").unwrap_err();
        assert!(matches!(url, TurnError::Server(IceServerError::Url(_))), "{url}");
        let life = TurnServers::MIN_LIFE - Duration::from_millis(1);
        assert_eq!(turn().life(life).unwrap_err(), TurnError::Life);
        assert!(turn().life(TurnServers::MIN_LIFE).is_ok());
    }

    #[tokio::test]
    async fn debug_shows_neither_secret_nor_credential() {
        let ann = UserId::new("ann").unwrap();
        let told = turn().ice_servers(&ann, NOW).await.unwrap();
        let shown = format!("{:?} {told:?}", turn());
        let credential = told.servers[0].credential().unwrap();
        assert!(!shown.contains("north") && !shown.contains(credential), "{shown}");
    }
}
