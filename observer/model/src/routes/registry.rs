//! The routes of one app: a limited number of names, and a cache of paths.

use crate::routes::normalize as route;
use crate::routes::normalize::Pattern;
use crate::routes::table::{RouteId, Routes};
use crate::routes::tree::{Moved, NOT_FOUND, Tree};
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};

/// Paths in the cache.
const MEMO_PATHS: usize = 1024;
/// The name of all routes beyond the limit. No path has this name: it has no slash.
const OTHER: &str = "other";

/// A path in the cache.
#[derive(Debug)]
struct Memo {
    id: RouteId,
    /// Requests that its route does not have yet.
    requests: u64,
    is_found: bool,
}

/// The routes of one app.
#[derive(Debug, Default)]
pub struct RouteRegistry {
    routes: Routes,
    /// Routes that the operator named.
    named: BTreeMap<String, RouteId>,
    /// All others.
    tree: Tree,
    /// Clients choose the paths, so the hash has a seed of its own.
    memo: HashMap<String, Memo, RandomState>,
    /// Routes that became others since [`Self::take_moved`].
    moved: Moved,
    /// A level was closed since [`Self::take_closed`].
    has_closed: bool,
    /// The limit is reached, and no level has enough names to be closed: those that were not found,
    /// and all.
    is_full: [bool; 2],
    /// Requests counted under `other` because the limit was reached.
    capped: u64,
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
        if !cut && let Some(memo) = self.memo.get_mut(path) {
            memo.requests += 1;
            if memo.is_found || not_found {
                return memo.id;
            }
            memo.is_found = true;
            self.routes.add_requests(memo.id, 0, true);
            return memo.id;
        }
        let name = route::reduce(patterns, path, cut);
        let Some(id) = self.admit(patterns, limit, &name, !not_found) else {
            self.capped += 1;
            return RouteId::OTHER;
        };
        self.routes.add_requests(id, 1, !not_found);
        // A path that was not found may be found later, and then gets a route of its own.
        let may_change = not_found && self.name(id).ends_with(NOT_FOUND);
        if !cut && !may_change {
            if self.memo.len() >= MEMO_PATHS {
                self.forget_paths();
            }
            let memo = Memo {
                id,
                requests: 0,
                is_found: !not_found,
            };
            self.memo.insert(path.to_owned(), memo);
        }
        id
    }

    /// The id of a route by its name; `None` beyond the limit.
    pub fn admit(
        &mut self,
        patterns: &[Pattern],
        limit: usize,
        name: &str,
        is_found: bool,
    ) -> Option<RouteId> {
        let room = if is_found { limit } else { limit / 2 };
        let Some(path) = in_tree(patterns, name) else {
            if let Some(&id) = self.named.get(name) {
                return Some(id);
            }
            while !self.has_room(room) {
                if !is_found || !self.relieve(is_found, limit) {
                    return None;
                }
            }
            let id = self.routes.add(name.to_owned(), is_found)?;
            self.named.insert(name.to_owned(), id);
            return Some(id);
        };
        loop {
            let place = self.tree.place(path, is_found, limit, &self.routes);
            if place.route.is_some() {
                return place.route;
            }
            // Each turn but the last closes a level.
            if place.crowded.is_some() {
                self.forget_paths();
                let moved = self
                    .tree
                    .collapse(&place, is_found, limit, &mut self.routes);
                self.collapsed(moved);
            } else if self.has_room(room) {
                let id = self.routes.add(place.name(), is_found)?;
                self.tree.insert(&place, id);
                return Some(id);
            } else if !self.relieve(is_found, limit) {
                return None;
            }
        }
    }

    /// Empties the cache, as it has to be before routes change: they get their requests.
    fn forget_paths(&mut self) {
        for (_, memo) in self.memo.drain() {
            self.routes.add_requests(memo.id, memo.requests, false);
        }
    }

    fn has_room(&self, room: usize) -> bool {
        self.routes.count() < room
    }

    /// Makes room at the limit.
    fn relieve(&mut self, is_found: bool, limit: usize) -> bool {
        if self.is_full[usize::from(is_found)] {
            return false;
        }
        self.forget_paths();
        let moved = self.tree.relieve(is_found, limit, &mut self.routes);
        self.is_full[usize::from(is_found)] = moved.is_none();
        if let Some(moved) = moved {
            self.collapsed(moved);
            return true;
        }
        false
    }

    fn collapsed(&mut self, moved: Moved) {
        self.moved.append(moved);
        self.is_full = [false; 2];
        self.has_closed = true;
    }

    /// Closes the levels that another master of the same app has closed.
    pub fn agree(&mut self, other: &Self, limit: usize) {
        self.forget_paths();
        let moved = self.tree.agree(&other.tree, limit, &mut self.routes);
        self.moved.append(moved);
        self.is_full = [false; 2];
    }

    /// Whether a level was closed since the last call.
    pub fn take_closed(&mut self) -> bool {
        std::mem::take(&mut self.has_closed)
    }

    /// Whether routes became others since [`Self::take_moved`].
    #[must_use]
    pub fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The routes that became others since the last call.
    #[must_use]
    pub fn take_moved(&mut self) -> Moved {
        std::mem::take(&mut self.moved)
    }

    /// The name of a route.
    #[must_use]
    pub fn name(&self, id: RouteId) -> &str {
        match self.routes.get(&id) {
            Some(route) => route.name(),
            None if id == RouteId::UNKNOWN => "",
            None => OTHER,
        }
    }

    /// The route that a request in flight will count under, as far as that is known.
    #[must_use]
    pub fn name_of(&self, patterns: &[Pattern], path: &str, cut: bool) -> String {
        let name = route::reduce(patterns, path, cut);
        match in_tree(patterns, &name) {
            // Levels are closed by requests that finished.
            Some(path) => self.tree.place(path, true, usize::MAX, &self.routes).name(),
            None => name.into_owned(),
        }
    }

    /// Whether the application had an answer for a path of the route.
    #[must_use]
    pub fn is_found(&self, id: RouteId) -> bool {
        self.routes.get(&id).is_some_and(|route| route.is_found)
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

/// The segments of a name in the tree; `None` if it is a pattern's, or `*`.
fn in_tree<'a>(patterns: &[Pattern], name: &'a str) -> Option<&'a str> {
    let is_pattern = patterns.iter().any(|pattern| pattern.as_str() == name);
    name.strip_prefix('/').filter(|_| !is_pattern)
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
        assert_eq!(routes.routes.count(), 1);
    }
}
