use futures::FutureExt;
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        http::{HeaderMap, HeaderName, HeaderValue, header},
    },
};

use super::{Client, PATIENCE};
use crate::protocol::Dialect;

/// How a client connects, before it does.
#[derive(Debug, Clone)]
#[must_use]
pub struct Dial {
    url: String,
    name: String,
    headers: HeaderMap,
    receive_buffer: Option<u32>,
}

impl Dial {
    /// To `url`, of the form `ws://host:port/path`.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: "somebody".into(),
            headers: HeaderMap::new(),
            receive_buffer: None,
        }
    }

    /// With this name in panics.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// With `token` in the query.
    pub fn query_token(self, token: &str) -> Self {
        self.query("token", token)
    }

    /// Going on with a negotiation, as `{sessionId}~{negotiation}~{seq}`.
    pub fn continuing(self, named: &str) -> Self {
        self.query("continue", named)
    }

    fn query(mut self, name: &str, value: &str) -> Self {
        let joint = if self.url.contains('?') { '&' } else { '?' };
        self.url.push(joint);
        self.url.push_str(name);
        self.url.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.url.push(char::from(byte));
                }
                other => self.url.push_str(&format!("%{other:02X}")),
            }
        }
        self
    }

    /// With `token` in the `Authorization` header (RFC 6750, section 2.1).
    pub fn header_token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With `token` among the subprotocols, which browsers can set and headers they cannot.
    pub fn subprotocol_token(self, token: &str) -> Self {
        self.header("sec-websocket-protocol", &format!("signaling.v1, bearer.{token}"))
    }

    /// Asking for all that the server says beyond the base messages.
    pub fn v1(self) -> Self {
        self.header("sec-websocket-protocol", Dialect::V1_SUBPROTOCOL)
    }

    /// With one more header.
    ///
    /// # Panics
    ///
    /// When that is none.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value)
            .unwrap_or_else(|error| panic!("{value:?} is no header value: {error}"));
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// With a receive buffer of about this many bytes, so that little is on its way to a client
    /// that does not read.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Connects.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub async fn connect(self) -> Client {
        let name = self.name.clone();
        let client = self.try_connect().await;
        client.unwrap_or_else(|error| panic!("client {name:?} could not connect: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or does not upgrade.
    ///
    /// # Panics
    ///
    /// When that takes too long, or the server's answer shows a token.
    pub async fn try_connect(self) -> Result<Client, Error> {
        let name = self.name.clone();
        let dialled = time::timeout(PATIENCE, self.dialled().boxed()).await;
        dialled.unwrap_or_else(|_| panic!("client {name:?} could not connect in time"))
    }

    async fn dialled(self) -> Result<Client, Error> {
        let stream = self.tcp().await?;
        stream.set_nodelay(true)?;
        let mut request = self.url.as_str().into_client_request()?;
        request.headers_mut().extend(self.headers);
        let (socket, response) = client_async(request, stream).await?;
        let subprotocol = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        let subprotocol = subprotocol.map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        Ok(Client { name: self.name, socket, subprotocol, abandon_after: PATIENCE, heartbeats: 0 })
    }

    async fn tcp(&self) -> Result<TcpStream, Error> {
        let rest = self.url.strip_prefix("ws://").unwrap_or(&self.url);
        let host = rest.split('/').next().unwrap_or(rest);
        let address = lookup_host(host).await?.next();
        let address = address.unwrap_or_else(|| panic!("{host} has no address"));
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(socket.connect(address).await?)
    }
}
