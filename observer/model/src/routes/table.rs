//! The routes of one app by id.

use foldhash::fast::FixedState;
use std::collections::HashMap;

/// Identifies a route within its [`Routes`]. No later route gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(u32);

impl RouteId {
    /// The route of a request whose path is unknown.
    pub const UNKNOWN: Self = Self(0);
    /// The route of all paths beyond the limit.
    pub const OTHER: Self = Self(1);

    /// Its number within [`Routes`].
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// A route.
#[derive(Debug)]
pub struct Route {
    name: String,
    /// Its requests, without those that the cache of paths still holds.
    pub requests: u64,
    /// The application had an answer for one of its paths.
    pub is_found: bool,
}

impl Route {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Routes by id.
#[derive(Debug, Default)]
pub struct Routes {
    // No client chooses the ids, so they need no secret hash.
    by_id: HashMap<RouteId, Route, FixedState>,
    /// The id of the latest.
    last: Option<RouteId>,
}

impl Routes {
    /// A route; `None` if it became another one.
    #[must_use]
    pub fn get(&self, id: &RouteId) -> Option<&Route> {
        self.by_id.get(id)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// One route from now on stands for another one too.
    pub fn merge(&mut self, into: RouteId, from: RouteId) {
        if let Some(from) = self.by_id.remove(&from)
            && let Some(into) = self.by_id.get_mut(&into)
        {
            into.requests += from.requests;
            into.is_found |= from.is_found;
        }
    }

    /// Gives a route another name.
    pub fn rename(&mut self, id: &RouteId, name: &str) {
        if let Some(route) = self.by_id.get_mut(id) {
            name.clone_into(&mut route.name);
        }
    }

    /// Adds a route; `None` if there are no more ids.
    pub fn add(&mut self, name: String, is_found: bool) -> Option<RouteId> {
        let id = RouteId(self.last.unwrap_or(RouteId::OTHER).0.checked_add(1)?);
        let route = Route {
            name,
            requests: 0,
            is_found,
        };
        self.by_id.insert(id, route);
        self.last = Some(id);
        Some(id)
    }

    /// Counts requests of a route.
    pub fn add_requests(&mut self, id: RouteId, requests: u64, is_found: bool) {
        if let Some(route) = self.by_id.get_mut(&id) {
            route.requests += requests;
            route.is_found |= is_found;
        }
    }
}
