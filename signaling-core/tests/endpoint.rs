//! The endpoint suite against the smallest adapter there can be: tungstenite over TCP.
#![allow(clippy::unwrap_used, clippy::result_large_err, reason = "a test; tungstenite's error")]

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future};
use signaling_core::{
    Relay,
    auth::{Client, Credentials},
    frame::{CloseCode, CloseFrame, Frame, Text, TransportError as Failure},
    protocol::Dialect,
    testing::endpoint::{Endpoint, Hosted, Setup, Unsupported},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        handshake::server::{Request, Response},
        protocol::{self, WebSocketConfig},
    },
};

async fn start(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
    let relay = setup.relay().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws/signaling", listener.local_addr().unwrap());
    let hosted = Hosted::new(relay.clone(), url);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(relay.clone(), stream));
        }
    });
    Ok(Box::new(hosted))
}

signaling_core::endpoint_tests!(start);

async fn connection(relay: Relay, stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let limit = Some(relay.config().max_frame_bytes);
    let config = WebSocketConfig::default().max_message_size(limit).max_frame_size(limit);
    let (mut credentials, mut dialect) = (Credentials::none(), Dialect::Base);
    let callback = |request: &Request, mut response: Response| {
        credentials = token(request).map_or_else(Credentials::none, Credentials::bearer);
        if protocols(request).any(|one| one == Dialect::V1_SUBPROTOCOL) {
            dialect = Dialect::V1;
            let chosen = Dialect::V1_SUBPROTOCOL.parse().unwrap();
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", chosen);
        }
        Ok(response)
    };
    let accepted = accept_hdr_async_with_config(stream, callback, Some(config)).await;
    let Ok(socket) = accepted else { return };
    let transport = socket
        .filter_map(|next| future::ready(next.map_err(failure).map(incoming).transpose()))
        .with(|frame| future::ready(Ok(outgoing(frame))))
        .sink_map_err(failure);
    match relay.authenticate(&credentials).await {
        Ok(identity) => {
            let client = Client::new(identity).speaking(dialect);
            relay.serve(transport, client).await;
        }
        Err(_) => relay.refuse(transport, CloseCode::Unauthorized).await,
    }
}

fn protocols(request: &Request) -> impl Iterator<Item = &str> {
    let headers = request.headers().get_all("sec-websocket-protocol");
    let values = headers.into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(str::trim))
}

/// Escapes in the query are left as they are: no good token has any.
fn token(request: &Request) -> Option<&str> {
    let query = request.uri().query().unwrap_or_default();
    let query = query.split('&').find_map(|it| it.strip_prefix("token="));
    let header = request.headers().get("authorization");
    let header = header.and_then(|value| value.to_str().ok()?.split_once(' '));
    let bearer = header.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let offered = protocols(request).find_map(|it| it.strip_prefix("bearer."));
    query.or(bearer.map(|(_, token)| token)).or(offered)
}

fn incoming(message: Message) -> Option<Frame> {
    Some(match message {
        Message::Text(text) => Frame::Text(Text::try_from(Bytes::from(text)).unwrap()),
        Message::Binary(bytes) => Frame::Binary(bytes),
        Message::Ping(bytes) => Frame::Ping(bytes),
        Message::Pong(bytes) => Frame::Pong(bytes),
        Message::Close(frame) => Frame::Close(frame.map(|frame| CloseFrame {
            code: frame.code.into(),
            reason: frame.reason.to_string().into(),
        })),
        Message::Frame(_) => return None,
    })
}

fn outgoing(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(Bytes::from(text).try_into().unwrap()),
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(bytes) => Message::Ping(bytes),
        Frame::Pong(bytes) => Message::Pong(bytes),
        Frame::Close(frame) => Message::Close(frame.map(|frame| protocol::CloseFrame {
            code: frame.code.into(),
            reason: frame.reason.into_owned().into(),
        })),
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Capacity(_) => Failure::TooLarge,
        Error::Utf8(_) => Failure::InvalidText,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Failure::Lost(error.into()),
        Error::Protocol(_) => Failure::Protocol(error.into()),
        _ => Failure::Lost(error.into()),
    }
}
