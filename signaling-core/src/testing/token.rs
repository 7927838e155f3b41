//! Signs tokens for tests, and only for tests: any header, any claims, right or wrong.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};

/// HMAC with one of the SHA-2 family (RFC 7518, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// HS256.
    Sha256,
    /// HS384.
    Sha384,
    /// HS512.
    Sha512,
}

/// The MAC of `message` under `secret`.
#[must_use]
pub fn mac(hash: Hash, secret: &[u8], message: &[u8]) -> Vec<u8> {
    macro_rules! mac {
        ($hash:ty) => {{
            let mut mac = <Hmac<$hash> as Mac>::new_from_slice(secret)
                .expect("HMAC takes a key of any length");
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    match hash {
        Hash::Sha256 => mac!(Sha256),
        Hash::Sha384 => mac!(Sha384),
        Hash::Sha512 => mac!(Sha512),
    }
}

/// `bytes` in base64url without padding (RFC 7515, section 2).
#[must_use]
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A JWS in compact form (RFC 7515, section 7.1) of these texts, whatever they are, with their MAC
/// as its signature.
#[must_use]
pub fn sign_text(hash: Hash, secret: &[u8], header: &str, claims: &str) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let signature = base64url(mac(hash, secret, message.as_bytes()));
    format!("{message}.{signature}")
}

/// A JWT of these claims, signed with HS256.
#[must_use]
pub fn sign(secret: &[u8], claims: &Value) -> String {
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    sign_text(Hash::Sha256, secret, header, &claims.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7515_comes_out() {
        let key = URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let token = sign_text(
            Hash::Sha256,
            &key,
            "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}",
            "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}",
        );
        assert_eq!(
            token,
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
    }
}
