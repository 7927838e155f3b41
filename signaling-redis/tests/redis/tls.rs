//! Redis over TLS, with certificates that the tests make.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use signaling_core::{
    id::SessionId,
    session::SessionRecord,
    store::{Created, SessionStore},
    time::{Clock, SystemClock},
};
use signaling_redis::{
    ConnectError, Redis, Settings,
    fred::{
        rustls::{
            ClientConfig, RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, pem::PemObject},
        },
        types::config::{Config, TlsConnector},
    },
    testing::Server,
};
use tempfile::TempDir;

use crate::harness::{now, user};

fn openssl(dir: &Path, command: &str) {
    let mut openssl = Command::new("openssl");
    let done = openssl.args(command.split(' ')).current_dir(dir).output();
    let done = done.expect("openssl is installed");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A server with a port for TLS, the certificates that it goes by, and that port.
fn start() -> (Server, TempDir, u16) {
    let certificates = tempfile::tempdir().unwrap();
    let dir = certificates.path();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=ca -days 9"));
    openssl(
        dir,
        &format!(
            "req -x509 {key} -keyout server.key -out server.crt -subj /CN=localhost -days 9 \
             -CA ca.crt -CAkey ca.key -addext subjectAltName=IP:127.0.0.1 \
             -addext basicConstraints=critical,CA:FALSE"
        ),
    );
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let [certificate, key, ca] = ["server.crt", "server.key", "ca.crt"].map(file);
    let server = Server::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]);
    (server, certificates, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_host_brings_the_certificates_that_it_trusts() {
    let (server, certificates, port) = start();
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(certificates.path().join("ca.crt")).unwrap();
    roots.add(ca).unwrap();
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = Config::from_url(&format!("redis://127.0.0.1:{port}")).unwrap();
    config.tls = Some(TlsConnector::from(tls).into());
    let redis = Redis::connect(Settings::fred(config)).await.unwrap();
    let (store, session) = (redis.store(), SessionId::new("s").unwrap());
    let until = SystemClock.now().after(Duration::from_secs(60));
    let record = SessionRecord::open(session.clone(), 1, user("ann"), user("bob"), until).unwrap();
    assert_eq!(store.create(&record).await.unwrap(), Created::Done);
    assert_eq!(store.load(&session).await.unwrap(), Some(record));
    assert_eq!(server.cli(&["exists", "session:active:s"]), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_nobody_trusts_is_one_error_in_time() {
    let (_server, _certificates, port) = start();
    let settings = Settings::url(&format!("rediss://:s3cret@127.0.0.1:{port}")).unwrap();
    let started = now();
    let error = Redis::connect(settings).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let ConnectError::Unreachable { cause, .. } = &error else { panic!("{error:?}") };
    let said = cause.to_string().to_lowercase();
    assert!(said.contains("certificate") || said.contains("unknownissuer"), "{said}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}
