//! The endpoint suite, against the server as it is run: another process, told by its command line
//! and its HTTP API. `cargo test -p signaling-standalone --test endpoint`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod server;

use async_trait::async_trait;
use serde_json::{Value, json};
use signaling_core::{
    session::Status,
    testing::endpoint::{Endpoint, Opening, ParticipantState, SessionState, Setup, Unsupported},
    time::Timestamp,
};

use server::Server;

async fn start(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
    match setup.store {
        Some(_) => Err(Unsupported(
            "the server has no store that can be made to fail",
        )),
        None => Ok(Box::new(Server::start(&setup.config).await)),
    }
}

signaling_core::endpoint_tests!(start);

#[async_trait]
impl Endpoint for Server {
    fn url(&self) -> String {
        format!("ws://{}/ws/signaling", self.address())
    }

    async fn open(&self, session: Option<&str>, initiator: &str, responder: &str) -> Opening {
        let mut body = json!({"initiatorId": initiator, "partnerId": responder});
        if let Some(session) = session {
            body["sessionId"] = session.into();
        }
        let (status, answer) = self.request("POST", "/api/sessions", Some(&body)).await;
        let session = || answer["sessionId"].as_str().unwrap().to_owned();
        match (status, answer["error"]["code"].as_str()) {
            (201, None) => Opening::New(session()),
            (200, None) => Opening::Existing(session()),
            (409, Some("conflict")) => Opening::Conflict,
            (409, Some("too-many-sessions")) | (422, Some("invalid")) => Opening::Refused,
            other => panic!("not an answer of the API: {other:?}"),
        }
    }

    async fn close(&self, session: &str) -> bool {
        self.delete(&format!("/api/sessions/{session}")).await
    }

    async fn disconnect(&self, user: &str) -> bool {
        self.delete(&format!("/api/users/{user}/connection")).await
    }

    async fn session(&self, session: &str) -> Option<SessionState> {
        let path = format!("/api/sessions/{session}");
        let (status, answer) = self.request("GET", &path, None).await;
        if status == 404 {
            return None;
        }
        assert_eq!((status, answer["sessionId"].as_str()), (200, Some(session)));
        let participant = |n: usize| {
            let one = &answer["participants"][n];
            ParticipantState {
                user: one["userId"].as_str().unwrap().to_owned(),
                connected: one["connected"].as_bool().unwrap(),
                last_heartbeat: match &one["lastHeartbeat"] {
                    Value::Null => None,
                    millis => Some(Timestamp::from_millis(millis.as_u64().unwrap())),
                },
            }
        };
        Some(SessionState {
            status: match answer["status"].as_str() {
                Some("waiting") => Status::Waiting,
                Some("active") => Status::Active,
                other => panic!("not a status: {other:?}"),
            },
            participants: [participant(0), participant(1)],
        })
    }

    async fn shutdown(&self) {
        self.terminate().await;
    }

    async fn faults(&self) -> Vec<String> {
        self.panics()
    }
}
