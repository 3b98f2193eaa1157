use super::*;
use rcgen::{CertifiedKey, KeyPair};
use std::fs;
use tempfile::TempDir;

/// A folder with a certificate, its key, and another key.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write(&folder, "a.crt", &cert.pem());
    write(&folder, "a.key", &signing_key.serialize_pem());
    let other = KeyPair::generate().unwrap();
    write(&folder, "b.key", &other.serialize_pem());
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) {
    fs::write(folder.path().join(name), text).unwrap();
}

const TLS: &str = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n";

fn users(of: &[&str]) -> String {
    let hash = bcrypt::hash_with_salt("a", 4, *b"a salt of 16 byt").unwrap();
    let lines = of.iter().map(|user| format!("  {user}: {hash}\n"));
    format!("basic_auth_users:\n{}", lines.collect::<String>())
}

fn open(folder: &TempDir, text: &str) -> Result<Web> {
    write(folder, "web.yml", text);
    Web::looking(Some(&folder.path().join("web.yml")), Duration::ZERO)
}

#[test]
fn without_a_file_everybody_may_ask() {
    let web = Web::open(None).unwrap();
    assert!(web.now().tls.is_none() && web.now().users.is_none());
    assert_eq!(web.scheme(), "http");
}

#[test]
fn files_are_relative_to_the_one_that_names_them() {
    let folder = folder();
    let web = open(&folder, TLS).unwrap();
    assert!(web.now().tls.is_some());
    assert_eq!(web.scheme(), "https");
}

#[test]
fn what_rustls_can_do_is_supported_and_the_rest_is_refused_with_the_cure() {
    let folder = folder();
    write(&folder, "empty", "");
    write(&folder, "noise", "\0\u{ff}-----BEGIN CERTIFICATE-----\n");
    let cut: String = fs::read_to_string(folder.path().join("a.crt")).unwrap();
    write(&folder, "cut", &cut[..200]);
    for right in [
        "min_version: TLS13",
        "max_version: TLS12",
        "min_version: TLS12\n  max_version: TLS12",
        "client_auth_type: NoClientCert",
        "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: a.crt",
        "client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: a.crt",
        "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]",
        "curve_preferences: [CurveP256, X25519, CurveP384]",
        "prefer_server_cipher_suites: false",
    ] {
        open(&folder, &format!("{TLS}  {right}\n")).unwrap();
    }
    for (wrong, words) in [
        (
            "min_version: TLS11",
            vec!["min_version: TLS11", "only TLS12"],
        ),
        ("max_version: SSL30", vec!["max_version: SSL30"]),
        ("min_version: TLS13\n  max_version: TLS12", vec!["swap"]),
        (
            "client_auth_type: RequestClientCert",
            vec!["lets in any", "VerifyClientCertIfGiven"],
        ),
        (
            "client_auth_type: RequireAnyClientCert",
            vec!["lets in any"],
        ),
        (
            "client_auth_type: Always",
            vec!["Always, which is none", "NoClientCert"],
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert",
            vec!["no client_ca_file"],
        ),
        ("client_ca_file: a.crt", vec!["add `client_auth_type"]),
        (
            "client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: gone",
            vec!["client_ca_file", "/gone, which cannot be read"],
        ),
        (
            "client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: a.key",
            vec!["client_ca_file", "with a certificate: there is none"],
        ),
        (
            "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
            vec!["RC4", "these are: TLS_"],
        ),
        (
            "cipher_suites: [TLS_AES_128_GCM_SHA256]\n  max_version: TLS12",
            vec!["cipher_suites"],
        ),
        (
            "curve_preferences: [CurveP521]",
            vec!["CurveP521", "X25519, CurveP256"],
        ),
    ] {
        refused(&folder, &format!("{TLS}  {wrong}\n"), &words);
    }
    for (cert, key, words) in [
        (
            "gone",
            "a.key",
            vec!["cert_file", "/gone, which cannot be read", "relative"],
        ),
        ("a.crt", "gone", vec!["key_file", "/gone"]),
        (
            "empty",
            "a.key",
            vec!["cert_file", "/empty", "there is none"],
        ),
        ("cut", "a.key", vec!["cert_file", "cut off"]),
        ("noise", "a.key", vec!["cert_file"]),
        (
            "a.crt",
            "a.crt",
            vec!["key_file", "private key: there is none"],
        ),
        (
            "a.crt",
            "b.key",
            vec!["b.key, that is not that of the certificate", "a.crt"],
        ),
        ("a.crt", ".", vec!["cannot be read"]),
    ] {
        let text = format!("tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n");
        refused(&folder, &text, &words);
    }
    let gone = folder.path().join("gone.yml");
    let error = format!("{:#}", Web::open(Some(&gone)).err().unwrap());
    assert!(
        error.contains("gone.yml") && error.contains("--web-config"),
        "{error}"
    );
}

fn refused(folder: &TempDir, text: &str, words: &[&str]) {
    let error = open(folder, text).err().map(|error| format!("{error:#}"));
    let error = error.unwrap_or_else(|| panic!("not refused: {text}"));
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    assert!(
        error.contains("/web.yml") && !error.contains('\n'),
        "{error}"
    );
}

fn tls(web: &Web) -> Arc<ServerConfig> {
    web.now().tls.clone().unwrap()
}

#[test]
fn a_certificate_that_is_renewed_is_read_anew_and_a_wrong_one_is_not_taken() {
    let folder = folder();
    let web = open(&folder, TLS).unwrap();
    let first = tls(&web);
    assert!(Arc::ptr_eq(&first, &tls(&web)));
    // The key came first, as a rotation may be seen half done.
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write(&folder, "a.key", &signing_key.serialize_pem());
    assert!(Arc::ptr_eq(&first, &tls(&web)));
    write(&folder, "a.crt", &cert.pem());
    let second = tls(&web);
    assert!(!Arc::ptr_eq(&first, &second));
    fs::remove_file(folder.path().join("a.crt")).unwrap();
    assert!(Arc::ptr_eq(&second, &tls(&web)));
    write(&folder, "a.crt", &cert.pem());
    assert!(!Arc::ptr_eq(&second, &tls(&web)));
}

#[tokio::test]
async fn users_come_and_go_with_the_file_but_it_is_never_opened() {
    let folder = folder();
    let both = format!("{TLS}{}", users(&["alice"]));
    let web = open(&folder, &both).unwrap();
    // `alice:a`, and `bob:a`.
    let may = async |web: &Web, text: &'static str| {
        let header = HeaderValue::from_static(text);
        let rules = web.now();
        let users = rules.users.as_ref().unwrap();
        users.admit(Some(&header)).await == users::Verdict::Welcome
    };
    let (alice, bob) = ("Basic YWxpY2U6YQ==", "Basic Ym9iOmE=");
    assert!(may(&web, alice).await && !may(&web, bob).await);
    write(&folder, "web.yml", &format!("{TLS}{}", users(&["bob"])));
    assert!(!may(&web, alice).await && may(&web, bob).await);
    // As when it is being written, or wrong: what held, holds.
    for weaker in [
        "",
        TLS,
        &users(&["alice"]),
        "basic_auth_users: {",
        "nonsense: 1",
    ] {
        write(&folder, "web.yml", weaker);
        assert!(may(&web, bob).await && web.now().tls.is_some(), "{weaker}");
    }
    fs::remove_file(folder.path().join("web.yml")).unwrap();
    assert!(may(&web, bob).await && web.now().tls.is_some());
    write(&folder, "web.yml", &both);
    assert!(may(&web, alice).await && !may(&web, bob).await);
}

#[test]
fn files_are_not_looked_at_for_each_request() {
    let folder = folder();
    write(&folder, "web.yml", TLS);
    let web = Web::open(Some(&folder.path().join("web.yml"))).unwrap();
    let first = tls(&web);
    write(&folder, "web.yml", &format!("{TLS}  min_version: TLS13\n"));
    assert!(Arc::ptr_eq(&first, &tls(&web)));
}
