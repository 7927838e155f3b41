//! Redis over TLS, with certificates that the tests make.

use std::{sync::Arc, time::Duration};

use signaling_core::{
    id::SessionId,
    session::SessionRecord,
    store::{SessionStore, Written},
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
    testing::TlsServer,
};

use crate::harness::{now, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_host_brings_the_certificates_that_it_trusts() {
    let server = TlsServer::start();
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(server.authority()).unwrap();
    roots.add(ca).unwrap();
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = Config::from_url(&format!("redis://127.0.0.1:{}", server.port())).unwrap();
    config.tls = Some(TlsConnector::from(tls).into());
    let redis = Redis::connect(Settings::fred(config)).await.unwrap();
    let (store, session) = (redis.store(), SessionId::new("s").unwrap());
    let until = SystemClock.now().after(Duration::from_secs(60));
    let record = SessionRecord::open(session.clone(), 1, user("ann"), user("bob"), until).unwrap();
    assert_eq!(store.put(&record, None).await.unwrap(), Written::Done);
    assert_eq!(store.load(&session).await.unwrap(), Some(record));
    assert_eq!(server.server().cli(&["exists", "session:active:s"]), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_nobody_trusts_is_one_error_in_time() {
    let server = TlsServer::start();
    let settings = Settings::url(&format!("rediss://:s3cret@127.0.0.1:{}", server.port())).unwrap();
    let started = now();
    let error = Redis::connect(settings).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let ConnectError::Unreachable { cause, .. } = &error else { panic!("{error:?}") };
    let said = cause.to_string().to_lowercase();
    assert!(said.contains("certificate") || said.contains("unknownissuer"), "{said}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}
