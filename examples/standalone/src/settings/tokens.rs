//! The key that tokens are checked with, and the key of the demonstration.

use signaling_core::jwt::{
    Algorithm, JwtAuthenticator, JwtAuthenticatorBuilder, JwtConfigError, JwtKey,
};

use super::{SettingsError, missing, only_one, random};
use crate::{
    given::Given,
    keys::{KeyFiles, KeySource, Tokens},
    secret::Secret,
    signer::Signer,
};

const JWT_KEYS: &str = "SIGNALING_JWT_SECRET, --jwt-secret-file, --jwt-public-key or --jwks";

/// What a key is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Secret,
    Pem,
    Jwks,
}

/// What tokens must be like. The names are those of the settings, for errors.
#[derive(Debug, Clone)]
struct Checks {
    algorithm: Option<Algorithm>,
    user_claim: (String, String),
    issuer: (Option<String>, String),
    audience: (Option<String>, String),
}

/// Who may connect, and in development who signs the tokens of the demonstration.
///
/// The demonstration gives a token to everyone who asks, so it never signs with a key that was
/// given: other servers may accept that one.
pub(super) fn tokens(
    given: &Given,
    from_env: Option<KeySource>,
    key_files: &mut KeyFiles,
) -> Result<(Tokens, Option<Signer>), SettingsError> {
    let cli = &given.cli;
    let file = |id: &str, path: &Option<std::path::PathBuf>| {
        path.clone().map(|path| KeySource::file(given.name(id), path))
    };
    let sources = [
        (Kind::Secret, from_env),
        (Kind::Secret, file("jwt_secret_file", &cli.jwt_secret_file)),
        (Kind::Pem, file("jwt_public_key", &cli.jwt_public_key)),
        (Kind::Jwks, file("jwks", &cli.jwks)),
    ];
    let kind = sources.iter().find(|(_, source)| source.is_some()).map(|(kind, _)| *kind);
    let source = only_one(sources.into_iter().filter_map(|(_, source)| source).collect())?;
    let checks = Checks {
        algorithm: cli.jwt_algorithm,
        user_claim: (cli.jwt_user_claim.clone(), given.name("jwt_user_claim")),
        issuer: (cli.jwt_issuer.clone(), given.name("jwt_issuer")),
        audience: (cli.jwt_audience.clone(), given.name("jwt_audience")),
    };
    let (demo, signer) = match cli.dev {
        true => {
            let secret = random("--dev")?;
            let demo = checks.demo(&secret)?;
            let (issuer, audience) = (cli.jwt_issuer.clone(), cli.jwt_audience.clone());
            (Some(demo), Some(Signer::new(secret, cli.jwt_user_claim.clone(), issuer, audience)))
        }
        false => (None, None),
    };
    let given_key = match (kind, source) {
        (Some(Kind::Jwks), _) if cli.jwt_algorithm.is_some() => {
            let setting = given.name("jwt_algorithm");
            return Err(SettingsError::cause(setting, "the keys of a JWK set name their own"));
        }
        (Some(kind), Some(source)) => {
            let make =
                move |source: &KeySource, key: &Secret| checks.authenticator(kind, source, key);
            Some(key_files.load(source, make)?)
        }
        _ if cli.dev && cli.jwt_algorithm.is_some() => {
            return Err(missing(given.name("jwt_algorithm"), JWT_KEYS));
        }
        _ if cli.dev => None,
        _ => return Err(SettingsError::Missing(JWT_KEYS)),
    };
    Ok((Tokens { given: given_key, demo }, signer))
}

impl Checks {
    fn demo(&self, secret: &Secret) -> Result<JwtAuthenticator, SettingsError> {
        let key = JwtKey::secret(Algorithm::HS256, secret.bytes());
        self.builder().key(key).build().map_err(|error| self.wrong("--dev", &error))
    }

    fn authenticator(
        &self,
        kind: Kind,
        source: &KeySource,
        key: &Secret,
    ) -> Result<JwtAuthenticator, SettingsError> {
        let built = match kind {
            Kind::Secret => {
                let algorithm = self.algorithm.unwrap_or(Algorithm::HS256);
                self.builder().key(JwtKey::secret(algorithm, key.bytes())).build()
            }
            Kind::Pem => self.pem(key.bytes()),
            Kind::Jwks => self.builder().jwks(&key.text()).build(),
        };
        built.map_err(|error| self.wrong(&source.setting, &error))
    }

    fn pem(&self, pem: &[u8]) -> Result<JwtAuthenticator, JwtConfigError> {
        let build = |algorithm| self.builder().key(JwtKey::pem(algorithm, pem)).build();
        match self.algorithm {
            Some(algorithm) => build(algorithm),
            // A key fits one of these; the first error is as good as the last where it fits none.
            None => [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]
                .into_iter()
                .fold(build(Algorithm::RS256), |built, algorithm| {
                    built.or_else(|error| build(algorithm).map_err(|_| error))
                }),
        }
    }

    fn builder(&self) -> JwtAuthenticatorBuilder {
        let mut builder = JwtAuthenticator::builder().user_claim(&self.user_claim.0);
        if let Some(issuer) = &self.issuer.0 {
            builder = builder.issuer(issuer);
        }
        if let Some(audience) = &self.audience.0 {
            builder = builder.audience(audience);
        }
        builder
    }

    /// Names the setting that is at fault: not always that of the key.
    fn wrong(&self, key: &str, error: &JwtConfigError) -> SettingsError {
        let setting = match error {
            JwtConfigError::Empty("issuer") => &self.issuer.1,
            JwtConfigError::Empty("audience") => &self.audience.1,
            JwtConfigError::Empty(_) => &self.user_claim.1,
            _ => key,
        };
        SettingsError::wrong(setting, error)
    }
}
