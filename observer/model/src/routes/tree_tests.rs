use crate::routes::normalize::Pattern;
use crate::routes::registry::RouteRegistry;
use crate::routes::table::RouteId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMIT: usize = 200;

/// An app: its routes, and the requests of each.
#[derive(Default)]
struct Site {
    routes: RouteRegistry,
    patterns: Vec<Pattern>,
    requests: BTreeMap<RouteId, u64>,
}

impl Site {
    fn request(&mut self, path: &str, not_found: bool) -> String {
        let routes = &mut self.routes;
        let id = routes.of(&self.patterns, LIMIT, path, false, not_found);
        let moved = routes.take_moved();
        if !moved.is_empty() {
            for (id, count) in std::mem::take(&mut self.requests) {
                *self.requests.entry(moved.to(id)).or_default() += count;
            }
        }
        *self.requests.entry(id).or_default() += 1;
        self.routes.name(id).to_owned()
    }

    fn get(&mut self, path: &str) -> String {
        self.request(path, false)
    }

    fn names(&self) -> BTreeMap<String, u64> {
        let mut names = BTreeMap::new();
        for (&id, count) in &self.requests {
            let former = names.insert(self.routes.name(id).to_owned(), *count);
            assert_eq!(former, None, "a name has one id");
        }
        names
    }
}

#[test]
fn a_level_with_many_names_becomes_one_route() {
    let mut site = Site::default();
    site.get("/");
    site.get("/blog/");
    site.get("/blog/42");
    for i in 0..300 {
        site.get(&format!("/blog/red-shoe-no-{i}"));
    }
    assert_eq!(site.get("/blog/blue-hat"), "/blog/{slug}");
    assert_eq!(site.get("/blog/blue-hat/comments"), "/blog/{slug}/comments");
    assert_eq!(site.get("/checkout"), "/checkout");
    let expected = [
        ("/", 1),
        ("/blog/", 1),
        ("/blog/{id}", 1),
        ("/blog/{slug}", 301),
        ("/blog/{slug}/comments", 1),
        ("/checkout", 1),
    ];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(site.names(), expected.into());
}

#[test]
fn a_level_at_its_limit_is_kept() {
    let mut site = Site::default();
    for i in 0..33 {
        let path = format!("/api/resource-{i}");
        assert_eq!(site.get(&path), path);
    }
    assert_eq!(site.get("/api/one-more"), "/api/{slug}");
    assert_eq!(site.get("/api/resource-1"), "/api/{slug}");
}

#[test]
fn the_busiest_names_of_a_level_are_kept() {
    let mut site = Site::default();
    for _ in 0..10 {
        site.get("/shop/cart");
    }
    for i in 0..100 {
        site.get(&format!("/shop/shoe-{i}"));
    }
    assert_eq!(site.get("/shop/cart"), "/shop/cart");
    let names = site.names();
    assert_eq!((names["/shop/cart"], names["/shop/{slug}"]), (11, 100));
    assert_eq!(names.len(), 2);
}

#[test]
fn the_root_keeps_a_hundred_names() {
    let mut site = Site::default();
    for i in 0..60 {
        let path = format!("/endpoint-{i}");
        assert_eq!(site.get(&path), path);
    }
    let mut shop = Site::default();
    for i in 0..1000 {
        shop.get(&format!("/product-{i}"));
        if i % 10 == 0 {
            shop.get("/checkout");
        }
    }
    assert_eq!(shop.get("/checkout"), "/checkout");
    assert_eq!(shop.get("/login"), "/{slug}");
    assert_eq!(shop.get("/cart/items"), "/{slug}/items");
    assert_eq!(shop.routes.capped(), 0);
}

#[test]
fn routes_below_a_placeholder_become_one() {
    let mut site = Site::default();
    for i in 0..40 {
        for tab in ["", "/photos", "/friends", &format!("/photos/img-{i}")] {
            site.get(&format!("/u/user-{i}{tab}"));
        }
    }
    let names = ["/u/{slug}", "/u/{slug}/friends", "/u/{slug}/photos"];
    let mut expected: BTreeMap<_, _> = names.map(|name| (name.to_owned(), 40)).into();
    expected.insert("/u/{slug}/photos/{slug}".to_owned(), 40);
    assert_eq!(site.names(), expected);
}

#[test]
fn scanners_close_no_level_to_paths_that_are_found() {
    let mut site = Site::default();
    site.get("/login");
    for i in 0..500 {
        site.request(&format!("/wp-{i}.php"), true);
        site.request(&format!("/admin-{i}/setup/x{i}"), true);
    }
    assert_eq!(site.request("/.env", true), "/{not_found}");
    assert_eq!(site.request("/.git/config", true), "/{not_found}");
    assert_eq!(site.request("/login", true), "/login");
    for i in 0..90 {
        let path = format!("/endpoint-{i}");
        assert_eq!(site.get(&path), path);
    }
    // It was not found before.
    assert_eq!(site.get("/wp-499.php"), "/wp-499.php");
    assert_eq!(site.routes.capped(), 0);
    assert_eq!(site.names()["/{not_found}"], 1002);
}

#[test]
fn scanners_of_many_levels_take_at_most_half_of_the_limit() {
    let mut site = Site::default();
    for i in 0..2000 {
        site.request(&format!("/v{}/name-{}", i % 30, i / 30), true);
    }
    assert_eq!(site.routes.capped(), 0);
    for i in 0..90 {
        let path = format!("/endpoint-{i}");
        assert_eq!(site.get(&path), path);
    }
}

#[test]
fn patterns_win_over_placeholders() {
    let mut site = Site {
        patterns: vec!["/blog/red-*".parse().unwrap()],
        ..Site::default()
    };
    for i in 0..100 {
        assert_eq!(site.get(&format!("/blog/red-{i}")), "/blog/red-*");
        site.get(&format!("/blog/blue-{i}"));
    }
    assert_eq!(site.get("/blog/red-x"), "/blog/red-*");
    // The name of a pattern's route, made by the heuristic.
    site.patterns = vec!["/news/today".parse().unwrap()];
    for i in 0..100 {
        site.get(&format!("/news/item-{i}"));
        assert_eq!(site.get("/news/today"), "/news/today");
        assert_eq!(site.get("/news/today;s=1"), "/news/today");
    }
}

#[test]
fn the_widest_level_makes_room_at_the_limit() {
    let mut site = Site::default();
    for level in 0..30 {
        for i in 0..12 + level % 3 {
            site.get(&format!("/l{level}/name-{i}"));
        }
    }
    assert_eq!(site.routes.capped(), 0);
    assert_eq!(site.get("/l29/name-0"), "/l29/name-0");
}

/// Paths of few and of many names, in levels of their own and together.
fn paths() -> impl Strategy<Value = Vec<(String, bool)>> {
    let path = "(/(a|b|api|x[0-9a-z]{1,2}|\\{slug\\}|\\{not_found\\}|[0-9]|f\\.[a-z]{2})?){1,5}";
    prop::collection::vec((path, prop::bool::weighted(0.3)), 0..800)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn routes_are_bounded_and_no_request_is_lost(paths in paths()) {
        let mut site = Site::default();
        for (path, not_found) in &paths {
            site.request(path, *not_found);
            // One more for `other`.
            prop_assert!(site.requests.len() <= LIMIT + 1);
        }
        let names = site.names();
        prop_assert_eq!(names.values().sum::<u64>(), paths.len() as u64);
        let other = names.get("other").copied().unwrap_or(0);
        prop_assert_eq!(other, site.routes.capped());
    }

    #[test]
    fn a_route_of_a_quiet_level_is_other_only_at_the_limit(paths in paths()) {
        let mut site = Site::default();
        for (path, not_found) in &paths {
            site.request(path, *not_found);
        }
        let routes = site.requests.keys().filter(|&&id| id != RouteId::OTHER);
        let is_below = routes.count() < LIMIT;
        prop_assert!(!is_below || site.get("/quiet/level") != "other");
    }

    #[test]
    fn the_same_paths_give_the_same_routes(paths in paths()) {
        let (mut one, mut two) = (Site::default(), Site::default());
        for (path, not_found) in &paths {
            prop_assert_eq!(one.request(path, *not_found), two.request(path, *not_found));
        }
    }
}
