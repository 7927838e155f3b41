use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Port, Server};

/// A server with a port for TLS, and the certificate authority that signed its certificate. Needs
/// `openssl` on the path.
#[derive(Debug)]
pub struct TlsServer {
    server: Server,
    certificates: TempDir,
    port: Port,
}

impl TlsServer {
    /// A server with a certificate for 127.0.0.1, of an authority that nobody else trusts.
    #[must_use]
    pub fn start() -> Self {
        let certificates = tempfile::tempdir().expect("a folder");
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
        let file = |name: &str| dir.join(name).to_str().expect("a path of text").to_owned();
        let port = Port::reserve();
        let [certificate, key, ca] = ["server.crt", "server.key", "ca.crt"].map(file);
        let server = Server::start_with(&[
            "--tls-port",
            &port.number.to_string(),
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ]);
        Self { server, certificates, port }
    }

    /// The server, which has a port without TLS as well.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The port for TLS on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The certificate of the authority, in PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.certificates.path().join("ca.crt")
    }
}

fn openssl(dir: &Path, command: &str) {
    let mut openssl = Command::new("openssl");
    let done = openssl.args(command.split(' ')).current_dir(dir).output();
    let done = done.expect("openssl is installed");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}
