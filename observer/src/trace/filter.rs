//! Which requests get a line.

use observer_model::recent::finished_request::FinishedRequest;
use observer_model::routes::glob;
use observer_model::routes::glob::Segment;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// What a request has to be. Each part that is set must hold; of several values of one
/// part, one must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub statuses: Vec<Statuses>,
    pub min_duration: Option<Duration>,
    pub routes: Vec<RouteGlob>,
}

impl Filter {
    /// Whether a request is to be shown.
    #[must_use]
    pub fn lets_through(&self, finished: &FinishedRequest) -> bool {
        let status = finished.request.status;
        let is_long = |min: Duration| {
            let taken = finished.duration_ns.map(Duration::from_nanos);
            taken.is_some_and(|taken| taken >= min)
        };
        any(&self.statuses, |wanted| wanted.has(status))
            && self.min_duration.is_none_or(is_long)
            && any(&self.routes, |wanted| wanted.is_of(finished))
    }
}

/// Whether one is right, or none was named.
fn any<T>(wanted: &[T], is_right: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is_right)
}

/// Statuses that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// No status was seen.
    None,
    /// This one.
    Code(u16),
    /// All that begin with this digit.
    Class(u16),
}

/// Why a text names no statuses.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no status such as 404, 5xx or none")]
pub struct StatusError(String);

impl Statuses {
    fn has(self, status: Option<u16>) -> bool {
        match self {
            Self::None => status.is_none(),
            Self::Code(code) => status == Some(code),
            Self::Class(class) => status.is_some_and(|status| status / 100 == class),
        }
    }
}

impl FromStr for Statuses {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let wrong = || StatusError(text.to_owned());
        let lower = text.to_ascii_lowercase();
        if lower == "none" {
            return Ok(Self::None);
        }
        let (digits, is_class) = match lower.strip_suffix("xx") {
            Some(digit) => (digit, true),
            None => (lower.as_str(), false),
        };
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| is_number);
        match number.ok_or_else(wrong)? {
            class @ 1..=9 if is_class => Ok(Self::Class(class)),
            code @ 100..=999 if !is_class => Ok(Self::Code(code)),
            _ => Err(wrong()),
        }
    }
}

/// Routes or paths that can be asked for: `*` stands for one segment or a part of it,
/// `**` for any number of segments. Braces mean themselves, as in the routes shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteGlob(Vec<Segment>);

/// Why a text is no glob of routes.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no route such as /users/*, /static/** or other")]
pub struct GlobError(String);

impl RouteGlob {
    /// Whether the route of a request is one of these, or its path, where all of that is known.
    fn is_of(&self, finished: &FinishedRequest) -> bool {
        let request = &finished.request;
        let path = request.path.as_deref().filter(|_| !request.path_cut);
        self.matches(&finished.route) || path.is_some_and(|path| self.matches(path))
    }

    fn matches(&self, route: &str) -> bool {
        let segments: Vec<_> = route.split('/').collect();
        glob::matches(&self.0, &segments)
    }
}

impl FromStr for RouteGlob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        // `other`, and what begins with no slash because it begins with anything.
        if text.is_empty() || !(text.starts_with(['/', '*']) || text == "other") {
            return Err(GlobError(text.to_owned()));
        }
        let segment = |segment: &str| match segment {
            "**" => Segment::Any,
            glob => Segment::Glob(glob.to_owned()),
        };
        Ok(Self(text.split('/').map(segment).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_model::event::Request;

    fn finished(status: Option<u16>, ms: Option<u64>, route: &str, path: &str) -> FinishedRequest {
        FinishedRequest {
            route: route.to_owned(),
            request: Request {
                status,
                path: Some(path.to_owned()),
                ..Request::default()
            },
            duration_ns: ms.map(|ms| ms * 1_000_000),
            ..FinishedRequest::default()
        }
    }

    #[test]
    fn statuses_are_codes_classes_and_none() {
        for (text, right, wrong) in [
            ("404", vec![Some(404)], vec![Some(400), Some(500), None]),
            ("5xx", vec![Some(500), Some(599)], vec![Some(499), None]),
            ("4XX", vec![Some(404)], vec![Some(200), Some(500)]),
            ("none", vec![None], vec![Some(200)]),
        ] {
            let wanted: Statuses = text.parse().unwrap();
            assert!(right.iter().all(|&status| wanted.has(status)), "{text}");
            assert!(!wrong.iter().any(|&status| wanted.has(status)), "{text}");
        }
        for text in [
            "", "x", "xx", "0xx", "55xx", "99", "1000", "+404", "5x", "ok", "-1xx", "500-599",
        ] {
            let error = text.parse::<Statuses>().unwrap_err().to_string();
            assert!(error.contains("such as 404, 5xx or none"), "{error}");
        }
    }

    #[test]
    fn routes_are_matched_by_their_segments() {
        for (glob, right, wrong) in [
            (
                "/users/*",
                &["/users/{id}", "/users/me"][..],
                &["/users", "/users/", "/users/{id}/cart", "/user/x"][..],
            ),
            ("/users/{id}", &["/users/{id}"], &["/users/me"]),
            ("/a/**", &["/a", "/a/b", "/a/b/c"], &["/ab", "/b/a"]),
            ("/*.css", &["/x.css"], &["/a/x.css", "/.cs"]),
            ("/", &["/"], &["/a", "", "other"]),
            ("**", &["/", "/a/b", "other", ""], &[]),
            ("**/cart", &["/cart", "/a/b/cart"], &["/cart/x"]),
            ("other", &["other"], &["/other", ""]),
            ("*", &["*", "other"], &["/a", ""]),
        ] {
            let wanted: RouteGlob = glob.parse().unwrap();
            for route in right {
                assert!(wanted.matches(route), "{glob} {route}");
            }
            for route in wrong {
                assert!(!wanted.matches(route), "{glob} {route}");
            }
        }
        for text in ["", "users", "others", "{id}"] {
            let error = text.parse::<RouteGlob>().unwrap_err().to_string();
            assert!(error.contains("such as /users/*"), "{error}");
        }
    }

    #[test]
    fn a_route_is_asked_for_by_a_path_too_but_not_by_the_beginning_of_one() {
        let wanted: RouteGlob = "/users/7".parse().unwrap();
        let mut one = finished(None, None, "/users/{id}", "/users/7");
        assert!(wanted.is_of(&one));
        one.request.path_cut = true;
        assert!(!wanted.is_of(&one));
    }

    #[test]
    fn every_part_must_hold_and_one_value_of_each() {
        let filter = Filter {
            statuses: vec!["5xx".parse().unwrap(), "none".parse().unwrap()],
            min_duration: Some(Duration::from_millis(100)),
            routes: vec!["/a".parse().unwrap(), "/b/*".parse().unwrap()],
        };
        for (status, ms, route, is_shown) in [
            (Some(500), Some(100), "/a", true),
            (None, Some(2000), "/b/c", true),
            (Some(404), Some(100), "/a", false),
            (Some(500), Some(99), "/a", false),
            // How long it took is not known: not that it was long.
            (Some(500), None, "/a", false),
            (Some(500), Some(100), "/c", false),
        ] {
            let one = finished(status, ms, route, route);
            assert_eq!(filter.lets_through(&one), is_shown, "{one:?}");
            assert!(Filter::default().lets_through(&one));
        }
    }
}
