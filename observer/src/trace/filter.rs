//! Filters of requests.

use observer_model::Untrusted;
use observer_model::recent::finished_request::FinishedRequest;
use observer_model::routes::glob;
use observer_model::routes::glob::Segment;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// Conditions on a request. Each condition that is set must hold; of several values of one condition,
/// one must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub statuses: Vec<Statuses>,
    pub min_duration: Option<Duration>,
    pub routes: Vec<RouteGlob>,
}

impl Filter {
    /// Whether a request passes.
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

/// Whether one matches, or none is set.
fn any<T>(wanted: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

/// Statuses to filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// No status was seen.
    None,
    /// This status.
    Code(u16),
    /// All statuses that begin with this digit.
    Class(u16),
}

/// A text that is no status.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("invalid status `{0}`, expected one such as 404, 5xx or none")]
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

/// Routes or paths to filter by: `*` matches one segment or a part of it, `**` any number of segments.
/// Braces match themselves, as in the routes shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteGlob(Vec<Segment>);

/// A text that is no glob of routes.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("invalid route `{0}`, expected one such as /users/*, /static/** or other")]
pub struct GlobError(String);

impl RouteGlob {
    /// Whether the route of a request matches, or its path if that is not cut.
    fn is_of(&self, finished: &FinishedRequest) -> bool {
        let request = &finished.request;
        let path = request.path.as_ref().filter(|_| !request.path_cut);
        let matches = |text: &Untrusted| self.matches(text.raw());
        matches(&finished.route) || path.is_some_and(matches)
    }

    fn matches(&self, route: &str) -> bool {
        let segments: Vec<_> = route.split('/').collect();
        glob::matches(&self.0, &segments)
    }
}

impl FromStr for RouteGlob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        // A route is `other`, or begins with a slash; a glob may begin with a star.
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
            route: route.to_owned().into(),
            request: Request {
                status,
                path: Some(path.to_owned().into()),
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
    fn a_path_matches_too_unless_it_is_cut() {
        let wanted: RouteGlob = "/users/7".parse().unwrap();
        let mut one = finished(None, None, "/users/{id}", "/users/7");
        assert!(wanted.is_of(&one));
        one.request.path_cut = true;
        assert!(!wanted.is_of(&one));
    }

    #[test]
    fn every_condition_must_hold_with_one_of_its_values() {
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
            // Its duration is unknown.
            (Some(500), None, "/a", false),
            (Some(500), Some(100), "/c", false),
        ] {
            let one = finished(status, ms, route, route);
            assert_eq!(filter.lets_through(&one), is_shown, "{one:?}");
            assert!(Filter::default().lets_through(&one));
        }
    }
}
