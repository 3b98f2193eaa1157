use super::*;

const HASH: &str = "$2y$10$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u";

#[test]
fn every_key_that_is_supported_is_read() {
    let file = File::parse(&format!(
        "# as in its example\n\
         tls_server_config:\n\
         \x20 cert_file: a.crt\n\
         \x20 key_file: /b.key\n\
         \x20 client_ca_file: ca.crt\n\
         \x20 client_auth_type: \"RequireAndVerifyClientCert\"\n\
         \x20 min_version: TLS12\n\
         \x20 max_version: TLS13\n\
         \x20 cipher_suites: [TLS_AES_128_GCM_SHA256]\n\
         \x20 curve_preferences:\n\
         \x20   - X25519\n\
         \x20 prefer_server_cipher_suites: false\n\
         http_server_config:\n\
         \x20 http2: false\n\
         \x20 headers:\n\
         \x20   Strict-Transport-Security: max-age=1\n\
         \x20   x-frame-options: deny\n\
         basic_auth_users:\n\
         \x20 alice: {HASH}\n\
         \x20 'bob': '{HASH}'\n"
    ));
    let file = file.unwrap();
    let users: Vec<_> = file.basic_auth_users.keys().collect();
    assert_eq!(users, ["alice", "bob"]);
    assert_eq!(file.http_server_config.headers.len(), 2);
    let tls = file.tls_server_config.unwrap();
    let files: Vec<_> = tls.files().collect();
    assert_eq!(files, ["a.crt", "/b.key", "ca.crt"].map(Path::new));
}

#[test]
fn the_example_of_the_document_is_one() {
    let text = include_str!("../../../../docs/WEB.md");
    let example = text.split("```yaml\n").nth(1).unwrap();
    let file = File::parse(example.split("```").next().unwrap()).unwrap();
    assert!(file.tls_server_config.is_some() && file.basic_auth_users.len() == 1);
}

#[test]
fn what_says_nothing_asks_for_nothing() {
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "{}",
        "basic_auth_users:\nhttp_server_config:\ntls_server_config:\n",
        "basic_auth_users: {}\nhttp_server_config:\n  headers:\n",
    ] {
        let file = File::parse(text).unwrap();
        let is_open = file.basic_auth_users.is_empty() && file.tls_server_config.is_none();
        assert!(
            is_open && file.http_server_config.headers.is_empty(),
            "{text}"
        );
    }
}

#[test]
fn what_is_wrong_is_named_with_its_cure_and_no_secret_is() {
    let tls = "tls_server_config:\n  cert_file: a\n  key_file: b\n";
    for (text, words) in [
        ("a: 1\n".to_owned(), vec!["line 1", "`a`", "docs/WEB.md"]),
        (
            "\n\n basic_auth: {}\n".to_owned(),
            vec!["line 3", "basic_auth"],
        ),
        (
            format!("{tls}  cert-file: c\n"),
            vec!["line 4", "cert-file"],
        ),
        ("basic_auth_users:\n  a: [1\n".to_owned(), vec!["line "]),
        ("basic_auth_users:\n\ta: x\n".to_owned(), vec!["line "]),
        ("basic_auth_users:\n  a: {}\n".to_owned(), vec!["line 2"]),
        (
            format!("basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n"),
            vec!["line 3", "duplicate"],
        ),
        ("- a\n".to_owned(), vec!["line 1"]),
        ("a: &x [*x]\n".to_owned(), vec!["line 1"]),
        (
            "basic_auth_users:\n  bob: swordfish\n".to_owned(),
            vec!["no bcrypt hash", "\"bob\"", "htpasswd"],
        ),
        (
            format!(
                "basic_auth_users:\n  bob: {}\n",
                HASH.replace("$10$", "$18$")
            ),
            vec!["cost 18", "4 to 17"],
        ),
        (
            format!(
                "basic_auth_users:\n  bob: {}\n",
                HASH.replace("$10$", "$03$")
            ),
            vec!["cost 3"],
        ),
        (
            format!("basic_auth_users:\n  '': {HASH}\n"),
            vec!["at least one character"],
        ),
        (
            format!("basic_auth_users:\n  'a:b': {HASH}\n"),
            vec!["no colon"],
        ),
        (
            "http_server_config:\n  http2: true\n".to_owned(),
            vec!["HTTP/1.1", "leave it out"],
        ),
        (
            "http_server_config:\n  headers:\n    X-Powered-By: a\n".to_owned(),
            vec!["X-Powered-By", "only Content-Security-Policy"],
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: \"a\\nb\"\n".to_owned(),
            vec!["no header can have"],
        ),
        (
            "rate_limit:\n  burst: 1\n".to_owned(),
            vec!["rate_limit", "leave it out"],
        ),
        (
            "tls_server_config: {}\n".to_owned(),
            vec!["no cert_file", "PEM"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n".to_owned(),
            vec!["no key_file"],
        ),
        (
            format!("{tls}  key: swordfish\n"),
            vec!["has key ", "key_file"],
        ),
        (format!("{tls}  cert: x\n"), vec!["has cert ", "cert_file"]),
        (format!("{tls}  client_ca: x\n"), vec!["client_ca_file"]),
        (
            format!("{tls}  client_allowed_sans: [x]\n"),
            vec!["client_allowed_sans"],
        ),
    ] {
        let error = File::parse(&text).err();
        let error = error.unwrap_or_else(|| panic!("not refused: {text:?}"));
        let error = format!("{error:#}");
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error:?} of {text:?}");
        }
        let is_secret = error.contains("swordfish") || error.contains("L6Bc");
        assert!(!is_secret && !error.contains('\n'), "{error:?}");
    }
}
