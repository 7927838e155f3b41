//! The STUN and TURN servers that a client is told of.

use std::{fmt, net::Ipv6Addr, sync::Arc};

use serde::Serialize;

/// STUN and TURN servers with the same credentials: W3C WebRTC 1.0, 4.2.4 (`RTCIceServer`).
///
/// What is here, a browser takes: `RTCPeerConnection` throws on a URL that is none, and on TURN
/// without credentials. `Debug` does not show the credential.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct IceServer {
    urls: Arc<[String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

/// What no browser would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IceServerError {
    /// There is no URL.
    #[error("no URL is given")]
    NoUrl,
    /// A URL is none. It is not quoted: somebody may have put a password into it.
    #[error("not a URL of a STUN or TURN server: {0}")]
    Url(&'static str),
    /// A TURN server's URL stands where there are no credentials.
    #[error("a TURN server needs a username and a credential")]
    NoCredential,
    /// The username is empty, or has more than [`IceServer::MAX_USERNAME_BYTES`].
    #[error("a username has 1 to 508 bytes")]
    Username,
    /// The credential is empty.
    #[error("the credential is empty")]
    Credential,
}

impl IceServer {
    /// The longest username: RFC 8489, 14.3.
    pub const MAX_USERNAME_BYTES: usize = 508;

    /// STUN servers, which ask nobody who it is: `stun:host`, `stuns:host:port` (RFC 7064).
    ///
    /// # Errors
    ///
    /// When there is no URL, or one is not of a STUN server.
    pub fn stun<I>(urls: I) -> Result<Self, IceServerError>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let (urls, turn) = checked(urls)?;
        match turn {
            true => Err(IceServerError::NoCredential),
            false => Ok(Self { urls, username: None, credential: None }),
        }
    }

    /// TURN servers, and STUN servers that have the same credentials: `turn:host`,
    /// `turns:host:port?transport=tcp` (RFC 7065).
    ///
    /// # Errors
    ///
    /// When there is no URL, one is not of a STUN or TURN server, the username is empty or longer
    /// than [`Self::MAX_USERNAME_BYTES`], or the credential is empty.
    pub fn turn<I>(
        urls: I,
        username: impl Into<String>,
        credential: impl Into<String>,
    ) -> Result<Self, IceServerError>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let (urls, _) = checked(urls)?;
        Self { urls, username: None, credential: None }.with_credentials(username, credential)
    }

    /// The same servers for somebody else. Their URLs are shared.
    ///
    /// # Errors
    ///
    /// When the username is empty or longer than [`Self::MAX_USERNAME_BYTES`], or the credential is
    /// empty.
    pub fn with_credentials(
        &self,
        username: impl Into<String>,
        credential: impl Into<String>,
    ) -> Result<Self, IceServerError> {
        let (username, credential) = (username.into(), credential.into());
        if username.is_empty() || username.len() > Self::MAX_USERNAME_BYTES {
            return Err(IceServerError::Username);
        }
        if credential.is_empty() {
            return Err(IceServerError::Credential);
        }
        let urls = self.urls.clone();
        Ok(Self { urls, username: Some(username), credential: Some(credential) })
    }

    /// Where they are.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Who the client says that it is.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// What proves it.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        self.credential.as_deref()
    }
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credential = self.credential.as_ref().map(|_| "<hidden>");
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .field("credential", &credential)
            .finish()
    }
}

/// The URLs, and whether a TURN server is among them.
fn checked<I>(urls: I) -> Result<(Arc<[String]>, bool), IceServerError>
where
    I: IntoIterator<Item: Into<String>>,
{
    let urls: Arc<[String]> = urls.into_iter().map(Into::into).collect();
    if urls.is_empty() {
        return Err(IceServerError::NoUrl);
    }
    let mut turn = false;
    for url in &*urls {
        turn |= is_turn(url).map_err(IceServerError::Url)?;
    }
    Ok((urls, turn))
}

/// RFC 7064, 3.1, and RFC 7065, 3.1. Schemes are in lower case, and of the transports there are
/// those that browsers know.
fn is_turn(url: &str) -> Result<bool, &'static str> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err("it begins with none of stun:, stuns:, turn: and turns:");
    };
    let turn = match scheme {
        "stun" | "stuns" => false,
        "turn" | "turns" => true,
        _ => return Err("it begins with none of stun:, stuns:, turn: and turns:"),
    };
    let (server, query) = match rest.split_once('?') {
        Some((server, query)) => (server, Some(query)),
        None => (rest, None),
    };
    match query {
        None => {}
        Some("transport=udp" | "transport=tcp") if turn => {}
        Some(_) if turn => return Err("after ? comes transport=udp or transport=tcp"),
        Some(_) => return Err("only TURN has a ?transport="),
    }
    let (host, port) = match server.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']').ok_or("a bracket is not closed")?;
            address.parse::<Ipv6Addr>().map_err(|_| "in brackets is an IPv6 address")?;
            (None, port)
        }
        None => {
            let end = server.find(':').unwrap_or(server.len());
            (Some(&server[..end]), &server[end..])
        }
    };
    let named = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    if host.is_some_and(|host| host.is_empty() || !host.bytes().all(named)) {
        return Err("after the scheme comes a host name or an IP address, without //");
    }
    let port_is_one = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|c| c.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => port.is_empty(),
    };
    if !port_is_one {
        return Err("after the host comes a port of 1 to 65535, or nothing");
    }
    Ok(turn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{SessionId, UserId},
        protocol::ServerMessage,
    };

    #[test]
    fn urls_are_those_of_the_two_rfcs() {
        for good in [
            "stun:stun.example",
            "stuns:stun.example:5349",
            "stun:192.0.2.1:3478",
            "turn:turn_1.example-2.org?transport=udp",
            "turns:turn.example:443?transport=tcp",
            "turn:[2001:db8::1]",
            "turn:[::1]:65535?transport=tcp",
        ] {
            let server = IceServer::turn([good], "ann", "x").unwrap();
            assert_eq!(server.urls(), [good]);
        }
        for bad in [
            "",
            "turn.example",
            "http:turn.example",
            "TURN:turn.example",
            "turn:",
            "turn://turn.example",
            "turn:ann:hunter2@turn.example",
            "turn:turn.example/path",
            "turn:turn.example ",
            "turn:turn.exämple",
            "turn:turn.example:",
            "turn:turn.example:0",
            "turn:turn.example:+80",
            "turn:turn.example:65536",
            "turn:[::1",
            "turn:[turn.example]",
            "turn:[::1]3478",
            "turn:turn.example?transport=quic",
            "turn:turn.example?",
            "turn:turn.example?transport=tcp&x=y",
            "stun:stun.example?transport=udp",
        ] {
            let error = IceServer::turn(["stun:a", bad], "ann", "x").unwrap_err();
            assert!(matches!(error, IceServerError::Url(_)), "{bad:?}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn messages_have_servers_as_browsers_take_them() {
        let (session, partner) = (SessionId::new("s:1").unwrap(), UserId::new("bob").unwrap());
        let servers = [
            IceServer::stun(["stun:stun.example"]).unwrap(),
            IceServer::turn(["turn:a.example", "turns:a.example"], "1:ann", "c=").unwrap(),
        ];
        let found = ServerMessage::MatchFound {
            session_id: &session,
            partner_id: &partner,
            is_initiator: false,
            negotiation: None,
            ice_servers: Some(&servers),
        };
        assert_eq!(
            found.to_text().as_str(),
            r#"{"type":"match-found","sessionId":"s:1","partnerId":"bob","isInitiator":false,"iceServers":[{"urls":["stun:stun.example"]},{"urls":["turn:a.example","turns:a.example"],"username":"1:ann","credential":"c="}]}"#
        );
        let renewed =
            ServerMessage::IceServers { session_id: &session, ice_servers: &servers[..1] };
        assert_eq!(
            renewed.to_text().as_str(),
            r#"{"type":"ice-servers","sessionId":"s:1","iceServers":[{"urls":["stun:stun.example"]}]}"#
        );
    }

    #[test]
    fn what_a_browser_would_throw_on_is_refused() {
        let none: [&str; 0] = [];
        assert_eq!(IceServer::stun(none), Err(IceServerError::NoUrl));
        assert_eq!(IceServer::turn(none, "ann", "x"), Err(IceServerError::NoUrl));
        assert_eq!(IceServer::stun(["stun:a", "turn:a"]), Err(IceServerError::NoCredential));
        let turn = |username: &str, credential: &str| {
            IceServer::turn(["turn:a"], username, credential).map(drop)
        };
        assert_eq!(turn("", "x"), Err(IceServerError::Username));
        assert_eq!(turn(&"u".repeat(509), "x"), Err(IceServerError::Username));
        assert_eq!(turn("ann", ""), Err(IceServerError::Credential));
        assert_eq!(turn(&"u".repeat(508), "x"), Ok(()));
    }

    #[test]
    fn debug_shows_no_credential() {
        let shown = format!("{:?}", IceServer::turn(["turn:a"], "ann", "hunter2").unwrap());
        assert!(shown.contains("turn:a") && shown.contains("ann"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
