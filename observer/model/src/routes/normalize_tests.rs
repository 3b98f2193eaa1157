use super::*;
use proptest::prelude::*;

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

#[test]
fn patterns_match_segments() {
    for (text, path, expected) in [
        ("/users/{id}", "/users/7", true),
        ("/users/{id}", "/users/", false),
        ("/users/{id}", "/users/7/edit", false),
        ("/users/*/edit", "/users/7/edit", true),
        ("/static/**", "/static/a/b.js", true),
        ("/static/**", "/static", true),
        ("/**/edit", "/a/b/c/edit", true),
        ("/**/edit", "/a/b/c/edit/x", false),
        ("/**/a/**/b", "/a/x/b", true),
        ("/v*/x", "/v2/x", true),
        ("/v{n}.json", "/v12.json", true),
        ("/v{n}.json", "/v12.xml", false),
        ("/", "/", true),
        ("/", "/a", false),
        ("/**", "*", false),
    ] {
        assert_eq!(
            pattern(text).matches(path, false),
            expected,
            "{text} {path}"
        );
    }
}

#[test]
fn a_wrong_pattern_is_refused_with_an_example() {
    assert!(
        "users"
            .parse::<Pattern>()
            .unwrap_err()
            .to_string()
            .contains("`/users/{id}`")
    );
    assert!(matches!(
        "/a/{id".parse::<Pattern>(),
        Err(PatternError::Brace(_))
    ));
    assert_eq!("/a".repeat(200).parse::<Pattern>(), Err(PatternError::Long));
}

#[test]
fn paths_are_reduced() {
    for (path, route) in [
        ("/", "/"),
        ("", "/"),
        ("*", "*"),
        ("/users/42", "/users/{id}"),
        ("/users/42/", "/users/{id}/"),
        ("/v1/users", "/v1/users"),
        ("/2024-01-31/report", "/{id}/report"),
        ("/a/123e4567-e89b-12d3-a456-426614174000/b", "/a/{id}/b"),
        ("/m/123e4567e89b12d3a456426614174000.jpg", "/m/{id}.jpg"),
        ("/c/da39a3ee5e6b4b0d3255bfef95601890afd80709", "/c/{id}"),
        ("/k/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/k/{id}"),
        ("/t/V1StGXR8_Z5jdHi6B-myTz09", "/t/{id}"),
        (
            "/blog/how-to-write-a-very-long-title-in-2024",
            "/blog/how-to-write-a-very-long-title-in-2024",
        ),
        ("/x;jsessionid=8A7/y", "/x/y"),
        ("/1.0/x", "/1.0/x"),
        ("/orders/2024-05-01/items/9", "/orders/{id}/items/{id}"),
        ("/u/Alice", "/u/Alice"),
        ("/u/bob.smith", "/u/bob.smith"),
        ("/api/hello.world", "/api/hello.world"),
        ("/static/app.3f2a91bc44d0e1f7.js", "/static/app.{id}.js"),
        ("/static/app.3f2a91bc.js.map", "/static/app.{id}.js.map"),
        ("/static/base.55e7cbb9ba48.css", "/static/base.{id}.css"),
        ("/assets/index-DkX3a9Qz.js", "/assets/index-{id}.js"),
        ("/reports/sales-20240501.pdf", "/reports/sales-{id}.pdf"),
        ("/static/jquery-3.6.0.min.js", "/static/jquery-3.6.0.min.js"),
        ("/static/facade.accede.js", "/static/facade.accede.js"),
    ] {
        assert_eq!(reduce(&[], path, false), route, "{path}");
    }
    let deep = "/a".repeat(40);
    assert_eq!(reduce(&[], &deep, false), "/a".repeat(11) + "/{rest}");
    let long = "/".to_owned() + &"é".repeat(100);
    assert_eq!(reduce(&[], &long, false), "/{id}");
}

#[test]
fn the_end_of_a_cut_path_is_unknown() {
    assert_eq!(reduce(&[], "/files/some/lo", true), "/files/some/{rest}");
    let patterns = [pattern("/files/**")];
    assert_eq!(reduce(&patterns, "/files/some/lo", true), "/files/**");
    // What comes after `lo` is not known: it may be `/files/some/long/edit`.
    for text in ["/files/some/lo", "/files/some/{name}", "/files/**/lo"] {
        assert!(!pattern(text).matches("/files/some/lo", true), "{text}");
        let route = reduce(&[pattern(text)], "/files/some/lo", true).into_owned();
        assert_eq!(route, "/files/some/{rest}");
    }
    assert!(!pattern("/files/some/lo/**").matches("/files/some/lo", true));
    assert!(pattern("/files/some/**").matches("/files/some/lo", true));
}

#[test]
fn the_first_pattern_that_matches_names_the_route() {
    let patterns = [pattern("/a/{x}"), pattern("/**")];
    assert_eq!(reduce(&patterns, "/a/b", false), "/a/{x}");
    assert_eq!(reduce(&patterns, "/b", false), "/**");
}

proptest! {
    #[test]
    fn reducing_again_changes_nothing(path in "(/[a-zA-Z0-9.;{}_-]{0,70}){0,20}", cut: bool) {
        let once = reduce(&[], &path, cut).into_owned();
        prop_assert_eq!(reduce(&[], &once, false), once.clone());
        prop_assert!(once.split('/').count() <= MAX_SEGMENTS + 1);
    }

    #[test]
    fn any_pattern_and_any_path_give_a_short_route(text in ".{0,80}", path in ".{0,300}", cut: bool) {
        let patterns: Vec<Pattern> = text.parse().into_iter().collect();
        let route = reduce(&patterns, &path, cut);
        prop_assert!(route.chars().count() <= 300 + 10);
    }
}
