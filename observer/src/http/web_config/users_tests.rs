use super::*;
use std::time::Instant;

/// A hash of the lowest cost.
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
fn without_users_there_is_no_authentication() {
    let users = Users::new(BTreeMap::new(), Arc::new(Semaphore::new(1)));
    assert!(users.unwrap().is_none());
}

#[tokio::test]
async fn only_a_name_with_its_password_is_accepted() {
    let users = users(&[("alice", "open:sesame"), ("bob", ""), ("ä", "ö")]);
    let is_accepted =
        async |text: &str| users.authenticate(Some(&basic(text))).await == Verdict::Accepted;
    for right in ["alice:open:sesame", "bob:", "ä:ö"] {
        // The second time, its hash is known.
        assert!(
            is_accepted(right).await && is_accepted(right).await,
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
        assert!(!is_accepted(wrong).await, "{wrong}");
    }
    assert_eq!(users.known().len(), 3);
    assert_eq!(users.authenticate(None).await, Verdict::Refused);
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
        let verdict = users.authenticate(Some(&header)).await;
        assert_eq!(verdict, Verdict::Refused, "{}", hostile.escape_ascii());
    }
    for odd in [
        b"\xff:a".as_slice(),
        b"alice:\xff\0",
        b"alice\0:a",
        b"\0:\0",
    ] {
        assert_eq!(
            users.authenticate(Some(&basic(odd))).await,
            Verdict::Refused
        );
    }
    // The case of the scheme does not matter (RFC 9110, section 11.1).
    let spelt = HeaderValue::from_static("bAsIc YWxpY2U6YQ==");
    assert_eq!(users.authenticate(Some(&spelt)).await, Verdict::Accepted);
}

#[tokio::test]
async fn an_unknown_name_takes_as_long_as_a_wrong_password() {
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
        assert_eq!(
            users.authenticate(Some(&basic(text))).await,
            Verdict::Refused
        );
        start.elapsed()
    };
    let known = time("alice:x").await;
    let unknown = time("carol:x").await;
    assert!(unknown * 10 > known, "{unknown:?} to {known:?}");
}

#[tokio::test(start_paused = true)]
async fn a_known_user_needs_no_check_and_others_wait_for_theirs_up_to_a_limit() {
    let users = users(&[("alice", "a"), ("bob", "b")]);
    assert_eq!(
        users.authenticate(Some(&basic("alice:a"))).await,
        Verdict::Accepted
    );
    let _turn = users.checks.acquire().await.unwrap();
    assert_eq!(
        users.authenticate(Some(&basic("alice:a"))).await,
        Verdict::Accepted
    );
    assert_eq!(
        users.authenticate(Some(&basic("bob:b"))).await,
        Verdict::Busy
    );
    assert_eq!(
        users.authenticate(Some(&basic("alice:b"))).await,
        Verdict::Busy
    );
}

#[tokio::test]
async fn known_users_are_bounded() {
    let users = users(&[("alice", "a")]);
    let tags = (0..KNOWN_LIMIT).map(|number| number.to_be_bytes().to_vec());
    users.known().extend(tags);
    assert_eq!(
        users.authenticate(Some(&basic("alice:a"))).await,
        Verdict::Accepted
    );
    assert_eq!(users.known().len(), 1);
}
