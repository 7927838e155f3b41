//! Who connects: JSON Web Tokens.

use std::sync::Arc;

use divan::Bencher;
use futures::FutureExt;
use signaling_core::{
    auth::{Authenticator, Credentials},
    jwt::JwtAuthenticator,
    time::{Clock, Timestamp},
};

use crate::stage::{User, authenticator};

fn verify(bencher: Bencher<'_, '_>, authenticator: &JwtAuthenticator, credentials: &Credentials) {
    bencher.bench(|| {
        let identity = authenticator.authenticate(divan::black_box(credentials)).now_or_never();
        identity.expect("an answer at once").expect("a good token")
    });
}

#[divan::bench]
fn token_hs256(bencher: Bencher<'_, '_>) {
    verify(bencher, &authenticator(), &User::new(0).credentials);
}

/// RFC 7515, A.3.
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const ES256_KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// Before the token of the RFC expired.
#[derive(Debug)]
struct Then;

impl Clock for Then {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_300_000_000_000)
    }
}

#[divan::bench]
fn token_es256(bencher: Bencher<'_, '_>) {
    let builder = JwtAuthenticator::builder().jwks(ES256_KEY).user_claim("iss");
    let authenticator = builder.clock(Arc::new(Then)).build().expect("a key");
    verify(bencher, &authenticator, &Credentials::bearer(ES256));
}
