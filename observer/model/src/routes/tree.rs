//! Routes as a tree of segments. A level with too many names becomes one placeholder.
//!
//! ```text
//!              34th name that was found
//!   Open ────────────────────────────────► Closed: unknown names are `{slug}`
//!    │ 34th name that was never found        ▲
//!    ▼                                       │ 34th name that was found
//!   FoundOnly: unknown names of paths that are not found are `{not_found}`
//! ```

use crate::routes::normalize::{ID, MAX_SEGMENTS, REST};
use crate::routes::table::{RouteId, Routes};
use std::collections::BTreeMap;

/// Replaces the names of a level that has too many.
const SLUG: &str = "{slug}";
/// Replaces paths that were not found, where there are too many. Nothing follows it.
pub const NOT_FOUND: &str = "{not_found}";
/// A level with fewer names is never closed.
const MIN_NAMES: usize = 8;
/// A name with fewer requests is not kept when its level is closed.
const BUSY_REQUESTS: u64 = 10;

/// The tree of an app's routes.
#[derive(Debug, Default)]
pub struct Tree {
    root: Node,
}

/// A segment, and those that may follow it.
#[derive(Debug, Default)]
struct Node {
    /// The route that ends here.
    route: Option<RouteId>,
    children: BTreeMap<Box<str>, Self>,
    level: Level,
}

/// What the children of a node may be named; see the picture above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Open,
    FoundOnly,
    Closed,
}

impl Level {
    /// What a level becomes that has too many names, of those that were found or of the others.
    fn for_names(found: bool) -> Self {
        if found { Self::Closed } else { Self::FoundOnly }
    }

    /// Stands for the names that the level does not have any more.
    fn placeholder(self) -> &'static str {
        match self {
            Self::Closed => SLUG,
            Self::Open | Self::FoundOnly => NOT_FOUND,
        }
    }
}

/// Which routes became which. An id never comes back, so a chain of them has an end.
#[derive(Debug, Default)]
pub struct Moved(BTreeMap<RouteId, RouteId>);

impl Moved {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The route that stands for this one now.
    #[must_use]
    pub fn to(&self, mut route: RouteId) -> RouteId {
        while let Some(&next) = self.0.get(&route) {
            route = next;
        }
        route
    }

    /// Adds later moves.
    pub fn append(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }
}

/// Where a path belongs.
#[derive(Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its segments, with placeholders.
    segments: Vec<&'a str>,
    /// Its route, if there is one already.
    pub route: Option<RouteId>,
    /// A level that would have too many names with this one: the segments before it.
    pub crowded: Option<usize>,
}

/// A change of the tree, with all that it has to keep up to date.
struct Collapse<'a> {
    limit: usize,
    routes: &'a mut Routes,
    moved: &'a mut Moved,
}

/// Whether a segment stands for any number of paths, or ends one: it is not a name.
fn is_placeholder(segment: &str) -> bool {
    ["", ID, REST, SLUG, NOT_FOUND].contains(&segment)
}

/// Most names of a level, of those that were found and of those that were not: a sixth of the limit.
/// The root, where most endpoints of an app are, may have half of it in names that were found.
fn max_names(depth: usize, found: bool, limit: usize) -> usize {
    let part = if depth == 0 && found { 2 } else { 6 };
    (limit / part).max(MIN_NAMES)
}

impl Tree {
    /// The place of a path. A path that is not `found` does not close a level.
    pub fn place<'a>(
        &self,
        path: &'a str,
        found: bool,
        limit: usize,
        routes: &Routes,
    ) -> Place<'a> {
        let mut place = Place {
            segments: Vec::new(),
            route: None,
            crowded: None,
        };
        let mut node = Some(&self.root);
        for (depth, segment) in path.split('/').enumerate() {
            let Some(parent) = node else {
                place.segments.push(segment);
                continue;
            };
            let is_known = parent.children.contains_key(segment) || is_placeholder(segment);
            let name = match parent.level {
                _ if is_known => segment,
                Level::Closed => SLUG,
                Level::FoundOnly if !found => NOT_FOUND,
                Level::FoundOnly | Level::Open => {
                    if parent.names(found, routes).count() >= max_names(depth, found, limit) {
                        place.crowded = Some(depth);
                    }
                    segment
                }
            };
            place.segments.push(name);
            node = parent.children.get(name);
            if name == NOT_FOUND {
                break;
            }
        }
        place.route = node.and_then(|node| node.route);
        place
    }

    /// Adds a route.
    pub fn insert(&mut self, place: &Place, id: RouteId) {
        let mut node = &mut self.root;
        for &segment in &place.segments {
            node = node.children.entry(segment.into()).or_default();
        }
        node.route = Some(id);
    }

    /// Closes the level of a place that is crowded, to all names or to those that were not found.
    pub fn collapse(
        &mut self,
        place: &Place,
        found: bool,
        limit: usize,
        routes: &mut Routes,
    ) -> Moved {
        let depth = place.crowded.unwrap_or(0);
        let prefix = place.segments.get(..depth).unwrap_or_default();
        self.close(prefix, Level::for_names(found), limit, routes)
    }

    /// Closes the level with the most names in all, or with the most that were not found; `None` if
    /// none has enough of them.
    pub fn relieve(&mut self, found: bool, limit: usize, routes: &mut Routes) -> Option<Moved> {
        let level = Level::for_names(found);
        let mut widest = None;
        let mut prefix = Vec::new();
        self.root
            .widest(level, &mut prefix, limit, routes, &mut widest);
        let (_, prefix) = widest?;
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        Some(self.close(&prefix, level, limit, routes))
    }

    /// Closes the levels that are closed in the tree of another master of the same app: their series
    /// have the same labels.
    pub fn agree(&mut self, other: &Self, limit: usize, routes: &mut Routes) -> Moved {
        let mut moved = Moved::default();
        // Levels of masters that are gone may stay, but not any number of them.
        let most = limit.saturating_mul(2 * MAX_SEGMENTS);
        if self.root.count() + other.root.count() <= most {
            let mut collapse = Collapse {
                limit,
                routes,
                moved: &mut moved,
            };
            self.root.agree(&other.root, "", 0, &mut collapse);
        }
        moved
    }

    fn close(&mut self, prefix: &[&str], level: Level, limit: usize, routes: &mut Routes) -> Moved {
        let mut moved = Moved::default();
        let mut node = Some(&mut self.root);
        let mut name = String::new();
        for &segment in prefix {
            name.push('/');
            name.push_str(segment);
            node = node.and_then(|node| node.children.get_mut(segment));
        }
        if let Some(node) = node {
            let mut collapse = Collapse {
                limit,
                routes,
                moved: &mut moved,
            };
            node.close(level, &mut collapse);
            node.settle_merged(level, &name, prefix.len(), &mut collapse);
        }
        moved
    }
}

impl Place<'_> {
    /// The name of the route.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = String::new();
        for segment in &self.segments {
            name.push('/');
            name.push_str(segment);
        }
        name
    }
}

impl Node {
    /// The children with a name, of which one was found or none was.
    fn names(&self, found: bool, routes: &Routes) -> impl Iterator<Item = (&str, &Self)> {
        let names = self.children.iter().map(|(name, child)| (&**name, child));
        names.filter(move |(name, child)| !is_placeholder(name) && child.is_found(routes) == found)
    }

    /// Whether a path that begins with this segment was found.
    fn is_found(&self, routes: &Routes) -> bool {
        let found = |id| routes.get(id).is_some_and(|route| route.is_found);
        self.route.as_ref().is_some_and(found)
            || self.children.values().any(|child| child.is_found(routes))
    }

    /// Requests of all routes that begin with this segment.
    fn requests(&self, routes: &Routes) -> u64 {
        let own = self.route.as_ref().and_then(|id| routes.get(id));
        let children = self.children.values().map(|child| child.requests(routes));
        children.sum::<u64>() + own.map_or(0, |route| route.requests)
    }

    /// Looks for a level that is wider than the widest so far, in parts of its limit.
    fn widest(
        &self,
        level: Level,
        prefix: &mut Vec<String>,
        limit: usize,
        routes: &Routes,
        widest: &mut Option<(usize, Vec<String>)>,
    ) {
        let is_any = level == Level::Closed;
        let found = if is_any {
            self.names(true, routes).count()
        } else {
            0
        };
        let count = found + self.names(false, routes).count();
        let width = count.saturating_mul(limit) / max_names(prefix.len(), is_any, limit);
        let is_wider = widest.as_ref().is_none_or(|(most, _)| width > *most);
        if self.level < level && count >= MIN_NAMES && is_wider {
            *widest = Some((width, prefix.clone()));
        }
        for (segment, child) in &self.children {
            prefix.push(segment.to_string());
            child.widest(level, prefix, limit, routes, widest);
            prefix.pop();
        }
    }

    /// Closes the level of its children.
    fn close(&mut self, level: Level, collapse: &mut Collapse) {
        let names = self.merged_names(level, collapse.routes);
        self.merge(level, names, collapse);
    }

    /// Closes the level of its children: these become one.
    fn merge(&mut self, level: Level, names: Vec<Box<str>>, collapse: &mut Collapse) {
        self.level = self.level.max(level);
        if names.is_empty() {
            return;
        }
        let placeholder = level.placeholder();
        let mut merged = self.children.remove(placeholder).unwrap_or_default();
        for name in names {
            match self.children.remove(&name) {
                Some(child) if level == Level::Closed => merged.take(child, collapse),
                Some(child) => merged.take_flat(child, collapse),
                None => {}
            }
        }
        self.children.insert(placeholder.into(), merged);
    }

    /// Names the routes below a placeholder.
    fn settle_merged(&mut self, level: Level, name: &str, depth: usize, collapse: &mut Collapse) {
        let placeholder = level.placeholder();
        if let Some(merged) = self.children.get_mut(placeholder) {
            let name = format!("{name}/{placeholder}");
            merged.settle(&name, depth + 1, collapse);
        }
    }

    /// Closes the levels that are closed below another node, and keeps the names that it keeps, too.
    fn agree(&mut self, other: &Self, name: &str, depth: usize, collapse: &mut Collapse) {
        let level = other.level;
        let closes = level > self.level;
        if closes {
            let mut names = self.merged_names(level, collapse.routes);
            if level == Level::Closed {
                // Busy ones too: all series of a name become those of the placeholder, or none does.
                names = self
                    .names(false, collapse.routes)
                    .map(|of| of.0.into())
                    .collect();
                let found = self.names(true, collapse.routes);
                names.extend(found.map(|of| Box::from(of.0)));
                names.retain(|name| !other.children.contains_key(name));
            }
            self.merge(level, names, collapse);
            self.settle_merged(level, name, depth, collapse);
        }
        let is_kept = |segment| closes && level == Level::Closed && !is_placeholder(segment);
        for (segment, theirs) in &other.children {
            if is_kept(segment) || theirs.has_closed() {
                let mine = self.children.entry(segment.clone()).or_default();
                mine.agree(theirs, &format!("{name}/{segment}"), depth + 1, collapse);
            }
        }
    }

    /// Whether a level below is closed.
    fn has_closed(&self) -> bool {
        self.level != Level::Open || self.children.values().any(Self::has_closed)
    }

    /// This node and all below.
    fn count(&self) -> usize {
        1 + self.children.values().map(Self::count).sum::<usize>()
    }

    /// The names that a placeholder replaces. A quarter of those that were found keep their names: the
    /// busiest ones.
    fn merged_names(&self, level: Level, routes: &Routes) -> Vec<Box<str>> {
        let mut merged: Vec<Box<str>> = self.names(false, routes).map(|of| of.0.into()).collect();
        if level == Level::Closed {
            let found = self.names(true, routes);
            let mut found: Vec<_> = found
                .map(|(name, of)| (of.requests(routes), name))
                .collect();
            // The sort is stable: names with as many requests stay in alphabetical order.
            found.sort_by_key(|&(requests, _)| std::cmp::Reverse(requests));
            let kept = found.len() / 4;
            let is_kept = |at: usize, requests| at < kept && requests >= BUSY_REQUESTS;
            let found = found.into_iter().enumerate();
            let seldom = found.filter(|&(at, (requests, _))| !is_kept(at, requests));
            merged.extend(seldom.map(|(_, (_, name))| Box::from(name)));
        }
        merged
    }

    /// Takes in the routes of another node: those with the same rest of path become one.
    fn take(&mut self, other: Self, collapse: &mut Collapse) {
        self.level = self.level.max(other.level);
        if let Some(route) = other.route {
            self.take_route(route, collapse);
        }
        for (segment, child) in other.children {
            self.children
                .entry(segment)
                .or_default()
                .take(child, collapse);
        }
    }

    /// Takes in the routes of another node as one.
    fn take_flat(&mut self, other: Self, collapse: &mut Collapse) {
        if let Some(route) = other.route {
            self.take_route(route, collapse);
        }
        for child in other.children.into_values() {
            self.take_flat(child, collapse);
        }
    }

    fn take_route(&mut self, route: RouteId, collapse: &mut Collapse) {
        match self.route {
            None => self.route = Some(route),
            Some(mine) => {
                collapse.routes.merge(mine, route);
                collapse.moved.0.insert(route, mine);
            }
        }
    }

    /// Gives the routes of a merged node their names, and closes levels that have too many now, or
    /// were closed in one of the parts.
    fn settle(&mut self, name: &str, depth: usize, collapse: &mut Collapse) {
        if let Some(id) = &self.route {
            collapse.routes.rename(id, name);
        }
        let limit = collapse.limit;
        let is_crowded = |found, routes: &Routes| {
            self.names(found, routes).count() > max_names(depth, found, limit)
        };
        let level = if is_crowded(true, collapse.routes) {
            Level::Closed
        } else if is_crowded(false, collapse.routes) {
            self.level.max(Level::FoundOnly)
        } else {
            self.level
        };
        if level != Level::Open {
            self.close(level, collapse);
        }
        for (segment, child) in &mut self.children {
            let name = format!("{name}/{segment}");
            child.settle(&name, depth + 1, collapse);
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
