//! The algorithms, and what kind of key each needs.

use std::{fmt, str::FromStr};

/// How a token is signed (RFC 7518, 3.1; RFC 8037, 3.1).
///
/// Written and parsed by its registered name; `Ed25519` (RFC 9864, 2.2) also names [`Self::EdDSA`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret signs and checks.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519; Ed448 is not supported.
    EdDSA,
}

impl Algorithm {
    pub(super) const ALL: [Self; 12] = [
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The name in a token's `alg` header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDSA);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(super) const fn key_kind(self) -> KeyKind {
        match self {
            Self::HS256 => KeyKind::Secret { min_bytes: 32 },
            Self::HS384 => KeyKind::Secret { min_bytes: 48 },
            Self::HS512 => KeyKind::Secret { min_bytes: 64 },
            Self::RS256 | Self::RS384 | Self::RS512 => KeyKind::Rsa,
            Self::PS256 | Self::PS384 | Self::PS512 => KeyKind::Rsa,
            Self::ES256 => KeyKind::Point(&P256),
            Self::ES384 => KeyKind::Point(&P384),
            Self::EdDSA => KeyKind::Point(&ED25519),
        }
    }

    pub(super) const fn of_back_end(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm as Theirs;
        match self {
            Self::HS256 => Theirs::HS256,
            Self::HS384 => Theirs::HS384,
            Self::HS512 => Theirs::HS512,
            Self::RS256 => Theirs::RS256,
            Self::RS384 => Theirs::RS384,
            Self::RS512 => Theirs::RS512,
            Self::PS256 => Theirs::PS256,
            Self::PS384 => Theirs::PS384,
            Self::PS512 => Theirs::PS512,
            Self::ES256 => Theirs::ES256,
            Self::ES384 => Theirs::ES384,
            Self::EdDSA => Theirs::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::named(name).ok_or_else(|| UnknownAlgorithm(name.to_owned()))
    }
}

/// No [`Algorithm`] has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the algorithm {0:?} is not supported")]
pub struct UnknownAlgorithm(pub String);

/// What kind of key an algorithm needs.
pub(super) enum KeyKind {
    /// RFC 7518, 3.2: at least as long as the hash.
    Secret {
        min_bytes: usize,
    },
    Rsa,
    Point(&'static Curve),
}

/// A curve, and how its public keys are written.
pub(super) struct Curve {
    pub(super) kty: &'static str,
    pub(super) crv: &'static str,
    pub(super) coordinate_bytes: usize,
    /// What stands before the point in a DER SubjectPublicKeyInfo (RFC 5480, 2; RFC 8410, 4). It
    /// names the curve, so that a point of another curve of the same size is told apart.
    pub(super) spki: &'static [u8],
    /// An uncompressed point starts with 4 (SEC 1, 2.3.3); an Ed25519 key is one bare coordinate.
    pub(super) uncompressed: bool,
}

static P256: Curve = Curve {
    kty: "EC",
    crv: "P-256",
    coordinate_bytes: 32,
    spki: b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
            \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00",
    uncompressed: true,
};
static P384: Curve = Curve {
    kty: "EC",
    crv: "P-384",
    coordinate_bytes: 48,
    spki: b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
            \x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00",
    uncompressed: true,
};
static ED25519: Curve = Curve {
    kty: "OKP",
    crv: "Ed25519",
    coordinate_bytes: 32,
    spki: b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
    uncompressed: false,
};
