//! Signs the demonstration's tokens: HS256 (RFC 7518, 3.2) in a compact JWS (RFC 7515, 7.1).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac, digest::InvalidLength};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use signaling_core::{id::UserId, time::Timestamp};

use crate::secret::Secret;

/// How long a token holds: a day at the desk.
const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// Makes tokens that this server accepts. `Debug` does not show its secret.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    secret: Secret,
    user_claim: String,
    issuer: Option<String>,
    audience: Option<String>,
}

impl Signer {
    pub(crate) fn new(
        secret: Secret,
        user_claim: String,
        issuer: Option<String>,
        audience: Option<String>,
    ) -> Self {
        Self { secret, user_claim, issuer, audience }
    }

    /// A token that says who `user` is.
    pub(crate) fn token(&self, user: &UserId, now: Timestamp) -> Result<String, InvalidLength> {
        let mut claims = Map::new();
        claims.insert("iat".to_owned(), json!(now.as_millis() / 1000));
        claims.insert("exp".to_owned(), json!(now.after(LIFE).as_millis() / 1000));
        for (claim, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if let Some(value) = value {
                claims.insert(claim.to_owned(), json!(value));
            }
        }
        claims.insert(self.user_claim.clone(), json!(user));
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = URL_SAFE_NO_PAD.encode(Value::Object(claims).to_string());
        let message = format!("{header}.{claims}");
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.bytes())?;
        mac.update(message.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        Ok(format!("{message}.{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use signaling_core::{
        auth::{Authenticator, Credentials},
        jwt::{Algorithm, JwtAuthenticator, JwtKey},
        time::{Clock, SystemClock},
    };

    use super::*;

    #[tokio::test]
    async fn its_tokens_are_accepted() {
        let secret = Secret::random().unwrap();
        let authenticator = JwtAuthenticator::builder()
            .key(JwtKey::secret(Algorithm::HS256, secret.bytes()))
            .issuer("us")
            .audience("signaling")
            .user_claim("name")
            .build()
            .unwrap();
        let signer = Signer::new(
            secret,
            "name".to_owned(),
            Some("us".to_owned()),
            Some("signaling".to_owned()),
        );
        let user = UserId::new("zoë \"z\"").unwrap();
        let token = signer.token(&user, SystemClock.now()).unwrap();
        let identity = authenticator.authenticate(&Credentials::bearer(token)).await;
        assert_eq!(identity.unwrap().user, user);
    }
}
