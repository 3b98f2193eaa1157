use super::*;
use std::time::Instant;

/// As cheap as there is.
fn hash(password: &str) -> String {
    let hash = bcrypt::hash_with_salt(password, 4, *b"a salt of 16 byt");
    hash.unwrap().to_string()
}

fn users(of: &[(&str, &str)]) -> Users {
    let hashes = of
        .iter()
        .map(|&(user, password)| (user.to_owned(), hash(password)));
    let users = Users::new(hashes.collect(), Arc::new(Semaphore::new(1)));
    users.unwrap().unwrap()
}

fn basic(text: impl AsRef<[u8]>) -> HeaderValue {
    HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).unwrap()
}

#[test]
fn without_users_everybody_may_ask() {
    let users = Users::new(BTreeMap::new(), Arc::new(Semaphore::new(1)));
    assert!(users.unwrap().is_none());
}

#[tokio::test]
async fn only_a_name_with_its_password_is_let_in() {
    let users = users(&[("alice", "open:sesame"), ("bob", ""), ("ä", "ö")]);
    let is_welcome = async |text: &str| users.admit(Some(&basic(text))).await == Verdict::Welcome;
    for right in ["alice:open:sesame", "bob:", "ä:ö"] {
        // Known again, the second time.
        assert!(
            is_welcome(right).await && is_welcome(right).await,
            "{right}"
        );
    }
    for wrong in [
        "alice:",
        "alice:open:sesame ",
        "alice:Open:sesame",
        "Alice:open:sesame",
        "alice: open:sesame",
        "bob:open:sesame",
        "carol:open:sesame",
        "carol:",
        ":open:sesame",
        ":",
    ] {
        assert!(!is_welcome(wrong).await, "{wrong}");
    }
    assert_eq!(users.known().len(), 3);
    assert_eq!(users.admit(None).await, Verdict::Refused);
}

#[tokio::test]
async fn a_hostile_header_is_refused() {
    let users = users(&[("alice", "a")]);
    let long = format!(
        "Basic {}",
        STANDARD.encode(format!("alice:{}", "a".repeat(10_000)))
    );
    for hostile in [
        b"".as_slice(),
        b"Basic",
        b"Basic ",
        b"Basic  ",
        b"Basic !",
        b"Basic YQ",
        b"Basic YWxpY2U=",
        b"Basic YWxpY2U6YQ",
        b"Basic YWxpY2U6YQ==YWxpY2U6YQ==",
        b"Bearer YWxpY2U6YQ==",
        b"BasicYWxpY2U6YQ==",
        b"Basic\tYWxpY2U6YQ==",
        b"Basic \xff\xfe",
        long.as_bytes(),
    ] {
        let header = HeaderValue::from_bytes(hostile).unwrap();
        let verdict = users.admit(Some(&header)).await;
        assert_eq!(verdict, Verdict::Refused, "{}", hostile.escape_ascii());
    }
    for odd in [
        b"\xff:a".as_slice(),
        b"alice:\xff\0",
        b"alice\0:a",
        b"\0:\0",
    ] {
        assert_eq!(users.admit(Some(&basic(odd))).await, Verdict::Refused);
    }
    // The scheme is spelt in any way (RFC 9110, section 11.1).
    let spelt = HeaderValue::from_static("bAsIc YWxpY2U6YQ==");
    assert_eq!(users.admit(Some(&spelt)).await, Verdict::Welcome);
}

#[tokio::test]
async fn a_name_that_is_not_known_is_checked_as_long_as_a_wrong_password() {
    let slow = bcrypt::hash_with_salt("a", 9, *b"a salt of 16 byt").unwrap();
    let hashes = [
        ("alice".to_owned(), slow.to_string()),
        ("bob".to_owned(), hash("b")),
    ];
    let users = Users::new(hashes.into(), Arc::new(Semaphore::new(1)));
    let users = users.unwrap().unwrap();
    assert_eq!(users.decoy.parse::<HashParts>().unwrap().get_cost(), 9);
    let time = async |text: &str| {
        let start = Instant::now();
        assert_eq!(users.admit(Some(&basic(text))).await, Verdict::Refused);
        start.elapsed()
    };
    let known = time("alice:x").await;
    let unknown = time("carol:x").await;
    assert!(unknown * 10 > known, "{unknown:?} to {known:?}");
}

#[tokio::test(start_paused = true)]
async fn who_was_let_in_needs_no_check_and_others_wait_for_theirs_and_no_longer() {
    let users = users(&[("alice", "a"), ("bob", "b")]);
    assert_eq!(users.admit(Some(&basic("alice:a"))).await, Verdict::Welcome);
    let _turn = users.checks.acquire().await.unwrap();
    assert_eq!(users.admit(Some(&basic("alice:a"))).await, Verdict::Welcome);
    assert_eq!(users.admit(Some(&basic("bob:b"))).await, Verdict::Busy);
    assert_eq!(users.admit(Some(&basic("alice:b"))).await, Verdict::Busy);
}

#[tokio::test]
async fn those_who_are_known_again_are_bounded() {
    let users = users(&[("alice", "a")]);
    let tags = (0..KNOWN_LIMIT).map(|number| number.to_be_bytes().to_vec());
    users.known().extend(tags);
    assert_eq!(users.admit(Some(&basic("alice:a"))).await, Verdict::Welcome);
    assert_eq!(users.known().len(), 1);
}
