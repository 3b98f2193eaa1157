//! The routes of one app: a limited number of names, and a cache of paths.

use crate::routes::normalize as route;
use crate::routes::normalize::Pattern;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};

/// Paths in the cache.
const MEMO_PATHS: usize = 1024;
/// The name of all routes beyond the limit. No path has this name: it has no slash.
const OTHER: &str = "other";

/// Identifies a route within its [`RouteRegistry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(u32);

impl RouteId {
    /// The route of a request whose path is unknown.
    pub const UNKNOWN: Self = Self(0);
    /// The route of all paths beyond the limit.
    pub const OTHER: Self = Self(1);

    /// Its number within the registry.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The routes of one app.
#[derive(Debug)]
pub struct RouteRegistry {
    names: Vec<String>,
    by_name: BTreeMap<String, RouteId>,
    /// Clients choose the paths, so the hash has a seed of its own.
    memo: HashMap<String, RouteId, RandomState>,
    /// Requests counted under `other` because the limit was reached.
    capped: u64,
}

impl Default for RouteRegistry {
    fn default() -> Self {
        let names = vec![String::new(), OTHER.to_owned()];
        Self {
            names,
            by_name: BTreeMap::new(),
            memo: HashMap::default(),
            capped: 0,
        }
    }
}

impl RouteRegistry {
    /// The route of a path. A path that was `not_found` adds a route only below half of the limit, so
    /// that scanners do not use up all of it.
    pub fn of(
        &mut self,
        patterns: &[Pattern],
        limit: usize,
        path: &str,
        cut: bool,
        not_found: bool,
    ) -> RouteId {
        if !cut && let Some(&id) = self.memo.get(path) {
            return id;
        }
        let name = route::reduce(patterns, path, cut);
        let room = if not_found { limit / 2 } else { limit };
        let Some(id) = self.admit(&name, room) else {
            self.capped += 1;
            return RouteId::OTHER;
        };
        if !cut {
            if self.memo.len() >= MEMO_PATHS {
                self.memo.clear();
            }
            self.memo.insert(path.to_owned(), id);
        }
        id
    }

    /// The id of a route by its name; `None` beyond the limit.
    pub fn admit(&mut self, name: &str, limit: usize) -> Option<RouteId> {
        if let Some(&id) = self.by_name.get(name) {
            return Some(id);
        }
        if self.by_name.len() >= limit {
            return None;
        }
        let id = RouteId(u32::try_from(self.names.len()).ok()?);
        self.names.push(name.to_owned());
        self.by_name.insert(name.to_owned(), id);
        Some(id)
    }

    /// The name of a route.
    #[must_use]
    pub fn name(&self, id: RouteId) -> &str {
        let name = usize::try_from(id.0).ok().and_then(|at| self.names.get(at));
        name.map_or(OTHER, String::as_str)
    }

    /// Requests counted under `other` because the limit was reached.
    #[must_use]
    pub fn capped(&self) -> u64 {
        self.capped
    }

    /// Adds requests counted under `other`.
    pub fn add_capped(&mut self, count: u64) {
        self.capped += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_beyond_the_limit_are_other() {
        let mut routes = RouteRegistry::default();
        let mut name = |path: &str| {
            let id = routes.of(&[], 2, path, false, false);
            routes.name(id).to_owned()
        };
        assert_eq!(name("/a/1"), "/a/{id}");
        assert_eq!(name("/b"), "/b");
        assert_eq!(name("/c"), "other");
        assert_eq!(name("/a/2"), "/a/{id}");
        assert_eq!(name("/c"), "other");
        assert_eq!(routes.capped(), 2);
    }

    #[test]
    fn paths_that_are_not_found_use_at_most_half_of_the_limit() {
        let mut routes = RouteRegistry::default();
        let scanned: Vec<_> = (b'a'..=b'z')
            .map(|c| routes.of(&[], 4, &format!("/{}", c as char), false, true))
            .collect();
        assert_eq!(
            scanned.iter().filter(|&&id| id != RouteId::OTHER).count(),
            2
        );
        assert_ne!(routes.of(&[], 4, "/real", false, false), RouteId::OTHER);
        assert_ne!(routes.of(&[], 4, "/z", false, false), RouteId::OTHER);
    }

    #[test]
    fn the_cache_of_paths_is_bounded() {
        let mut routes = RouteRegistry::default();
        for i in 0..5000 {
            routes.of(&[], 10, &format!("/x/{i}"), false, false);
        }
        assert!(routes.memo.len() <= MEMO_PATHS);
        assert_eq!(routes.by_name.len(), 1);
    }
}
