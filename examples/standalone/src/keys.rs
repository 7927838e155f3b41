//! Where a key comes from, and what is made of it: once at the start, and again on SIGHUP when it is
//! in a file.

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use signaling_core::{
    auth::{AuthError, Authenticator, Credentials, Identity},
    ice::{IceServerProvider, IceServers, ProviderError, TurnServers},
    id::UserId,
    jwt::JwtAuthenticator,
    time::Timestamp,
};

use crate::{current::Current, secret::Secret, settings::SettingsError};

/// A key, and the name of the flag or variable that it came by.
#[derive(Debug, Clone)]
pub(crate) struct KeySource {
    pub(crate) setting: String,
    at: KeyAt,
}

#[derive(Debug, Clone)]
enum KeyAt {
    Value(Secret),
    File(PathBuf),
}

impl KeySource {
    pub(crate) fn value(setting: impl Into<String>, secret: Secret) -> Self {
        Self { setting: setting.into(), at: KeyAt::Value(secret) }
    }

    pub(crate) fn file(setting: String, path: PathBuf) -> Self {
        Self { setting, at: KeyAt::File(path) }
    }

    /// The path is not told: it might be the secret itself.
    fn read(&self) -> Result<Secret, SettingsError> {
        match &self.at {
            KeyAt::Value(secret) => Ok(secret.clone()),
            KeyAt::File(path) => Secret::from_file(path).map_err(|error| SettingsError::Wrong {
                setting: self.setting.clone(),
                cause: format!("the file cannot be read: {error}"),
            }),
        }
    }
}

/// Reads one key file again.
type Reload = Box<dyn Fn() + Send + Sync>;

/// The key files of the server.
#[derive(Default)]
pub(crate) struct KeyFiles(Vec<Reload>);

impl KeyFiles {
    /// What `make` makes of the key. If the key is in a file, [`reload`](Self::reload) reads it
    /// again.
    pub(crate) fn load<T: Send + Sync + 'static>(
        &mut self,
        source: KeySource,
        make: impl Fn(&KeySource, &Secret) -> Result<T, SettingsError> + Send + Sync + 'static,
    ) -> Result<Current<T>, SettingsError> {
        let current = Current::new(make(&source, &source.read()?)?);
        if let KeyAt::File(_) = source.at {
            let current = current.clone();
            self.0.push(Box::new(move || {
                match source.read().and_then(|secret| make(&source, &secret)) {
                    Ok(value) => {
                        current.replace(value);
                        tracing::info!(setting = source.setting, "key file reloaded");
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "key file not reloaded; the old key stays in force");
                    }
                }
            }));
        }
        Ok(current)
    }

    /// Reads all key files again. What cannot be read, or is not valid, leaves the old key in
    /// force.
    fn reload(&self) {
        if self.0.is_empty() {
            tracing::info!("SIGHUP: there is no key file to reload");
        }
        self.0.iter().for_each(|reload| reload());
    }

    /// Reloads the files on each SIGHUP. From here on SIGHUP does not end the process.
    ///
    /// # Errors
    ///
    /// When the operating system does not deliver the signal.
    #[cfg(unix)]
    pub(crate) fn reload_on_hangup(self) -> std::io::Result<impl Future<Output = ()>> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangups = signal(SignalKind::hangup())?;
        let files = Arc::new(self);
        Ok(async move {
            while hangups.recv().await.is_some() {
                let files = files.clone();
                if let Err(error) = tokio::task::spawn_blocking(move || files.reload()).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "reload failed");
                }
            }
        })
    }

    /// There is no SIGHUP here.
    #[cfg(not(unix))]
    pub(crate) fn reload_on_hangup(self) -> std::io::Result<impl Future<Output = ()>> {
        Ok(std::future::pending())
    }
}

impl fmt::Debug for KeyFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFiles({})", self.0.len())
    }
}

/// Who may connect: whose token is signed with the key that was given, or with the key of the
/// demonstration.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) given: Option<Current<JwtAuthenticator>>,
    pub(crate) demo: Option<JwtAuthenticator>,
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        if let Some(demo) = &self.demo {
            match (demo.authenticate(credentials).await, &self.given) {
                // Not signed by the demonstration: the given key decides.
                (Err(AuthError::Invalid(_)), Some(_)) => {}
                (decided, _) => return decided,
            }
        }
        match &self.given {
            Some(given) => given.get().authenticate(credentials).await,
            None => Err(AuthError::invalid("there is no key")),
        }
    }
}

#[async_trait]
impl IceServerProvider for Current<TurnServers> {
    async fn ice_servers(
        &self,
        user: &UserId,
        now: Timestamp,
    ) -> Result<IceServers, ProviderError> {
        self.get().ice_servers(user, now).await
    }
}
