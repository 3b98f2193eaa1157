//! TLS, passwords and headers, as a client has them.

use super::*;
use rcgen::{CertificateParams, CertifiedIssuer, CertifiedKey, KeyPair};
use std::fs;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const ASK: &str = "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
const FAST: Limits = Limits {
    head: Duration::from_millis(300),
    connections: 8,
    streams: 1,
    stream_lifetime: Duration::from_secs(50),
    lifetime: Duration::from_secs(60),
    last_response: Duration::from_secs(10),
    write: Duration::from_secs(30),
};

struct Guest {
    folder: TempDir,
    served: Served,
}

impl Guest {
    /// Of a server with a certificate, and with these lines beside.
    async fn of(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.crt", &cert.pem());
        write("a.key", &signing_key.serialize_pem());
        let ca = CertificateParams::default();
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::default().signed_by(&key, &ca).unwrap();
        write("ca.crt", &ca.pem());
        write("own.crt", &own.pem());
        write("own.key", &key.serialize_pem());
        let tls = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n";
        write("web.yml", &format!("{tls}{more}"));
        let web = Web::open(Some(&folder.path().join("web.yml"))).unwrap();
        let served = Served::start_for(FAST, web).await;
        Self { folder, served }
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.folder.path().join(name)).unwrap()
    }

    /// Asks over TLS, with a certificate of its own if there is one.
    async fn ask(&self, head: &str, own: Option<&str>) -> io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate("a.crt")).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.folder.path().join("own.key"));
                let chain = vec![self.certificate(name)];
                config.with_client_auth_cert(chain, key.unwrap()).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.served.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        stream.write_all(format!("{head}\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

#[tokio::test]
async fn over_tls_everything_is_as_without_and_in_plain_nothing_is() {
    let guest = Guest::of("").await;
    let answer = guest.ask(ASK, None).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("\ngunicorn_observer_events_total"),
        "{answer}"
    );
    let mut plain = TcpStream::connect(guest.served.address).await.unwrap();
    plain
        .write_all(format!("{ASK}\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn who_does_not_shake_hands_in_time_is_cut_off() {
    let guest = Guest::of("").await;
    let mut silent = TcpStream::connect(guest.served.address).await.unwrap();
    let mut nothing = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut nothing));
    assert_eq!(end.await.unwrap().unwrap_or_default(), 0);
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_refused() {
    let ask = "  client_ca_file: ca.crt\n  client_auth_type: ";
    let guest = Guest::of(&format!("{ask}RequireAndVerifyClientCert\n")).await;
    let answer = guest.ask(ASK, Some("own.crt")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(guest.ask(ASK, None).await.is_err());
    assert!(
        Guest::of(&format!("{ask}VerifyClientCertIfGiven\n"))
            .await
            .ask(ASK, None)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn everything_is_guarded_and_has_the_headers_that_are_asked_for() {
    let hash = bcrypt::hash_with_salt("a", 4, *b"a salt of 16 byt").unwrap();
    let guest = Guest::of(&format!(
        "basic_auth_users: {{alice: {hash}}}\n\
         http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    ))
    .await;
    for path in [
        "/",
        "/metrics",
        "/api/v1/snapshot",
        "/api/v1/events",
        "/healthz",
        "/readyz",
        "/nothing",
        "/dashboard/app.js",
    ] {
        let ask = ASK.replace("/metrics", path);
        for (wrong, status) in [
            ("", "401"),
            ("Authorization: Basic YWxpY2U6Yg==\r\n", "401"),
            ("Authorization: Basic Ym9iOmE=\r\n", "401"),
            ("Authorization: \r\n", "401"),
        ] {
            let answer = guest.ask(&format!("{ask}{wrong}"), None).await.unwrap();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{path}: {answer}"
            );
            assert!(
                answer.contains("www-authenticate: Basic realm="),
                "{answer}"
            );
            assert!(answer.contains("x-frame-options: deny"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nUnauthorized\n"), "{answer}");
        }
    }
    let ask = format!("{ASK}Authorization: Basic YWxpY2U6YQ==\r\n");
    let answer = guest.ask(&ask, None).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-frame-options: deny"), "{answer}");
}
