//! What is counted for an app as a whole: never reset while its master lives.

use crate::counters::histogram::{HTTP_DURATION, Histogram, PHASE};
use crate::counters::label_limits::{ErrorType, LabelLimits, OTHER};
use crate::counters::worker_counters::{
    Counters, ErrorKey, Errors, Outcome, Phase, add, duration_ns, phases,
};
use crate::errors::cause::{Cause, ErrorAnalysis};
use crate::event::Request;
use crate::routes::registry::{RouteId, RouteRegistry};
use crate::settings::Settings;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Worker classes of one app; a master does not invent more.
const MAX_CLASSES: usize = 32;
/// Series of `http_server_request_duration_seconds` for each route that is allowed.
const SERIES_PER_ROUTE: usize = 16;
/// The methods OpenTelemetry knows; all others are `_OTHER`.
const METHODS: [&str; 10] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
];

/// Behind all of them.
const UNKNOWN_METHOD: u8 = u8::MAX;

/// LabelLimits a worker class of its [`AppCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u8);

/// Series by small ids of our own making, in the order in which they came: nobody outside chooses
/// the keys, so that they need no secret hash, and a replay has the same order.
pub type ById<K, V> = IndexMap<K, V, FixedState>;

/// A request's method, of those known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(u8);

impl Default for Method {
    /// That of a request whose method is not known.
    fn default() -> Self {
        Self(UNKNOWN_METHOD)
    }
}

impl Method {
    fn of(method: Option<&str>) -> Self {
        let known = method.and_then(|method| METHODS.iter().position(|&known| known == method));
        Self(
            known
                .and_then(|at| u8::try_from(at).ok())
                .unwrap_or(UNKNOWN_METHOD),
        )
    }

    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        METHODS
            .get(usize::from(self.0))
            .copied()
            .unwrap_or("_OTHER")
    }
}

impl ClassId {
    /// There are no more than [`MAX_CLASSES`].
    fn at(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

fn no_phases() -> [Histogram; Phase::ALL.len()] {
    Phase::ALL.map(|_| Histogram::new(&PHASE))
}

/// Tells the series of `http_server_request_duration_seconds` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpKey {
    pub class: ClassId,
    pub method: Method,
    pub route: RouteId,
    pub status: Option<u16>,
}

/// Tells the series of `gunicorn_http_errors_total` apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpErrorKey {
    pub class: ClassId,
    pub method: Method,
    pub route: RouteId,
    pub status: u16,
    pub error: ErrorType,
    pub raised_in: String,
}

/// The counts of an app.
#[derive(Debug, Default)]
pub struct AppCounters {
    pub routes: RouteRegistry,
    pub names: LabelLimits,
    pub http_errors: BTreeMap<HttpErrorKey, u64>,
    classes: Vec<Arc<str>>,
    pub http: ById<HttpKey, Histogram>,
    /// In the order of [`Phase::ALL`].
    pub phases: BTreeMap<ClassId, [Histogram; Phase::ALL.len()]>,
    /// The worker families, for all workers of a class together.
    pub totals: BTreeMap<ClassId, Counters>,
}

impl AppCounters {
    /// The id of a worker class by its name.
    pub fn class(&mut self, name: &str) -> ClassId {
        if let Some(at) = self.classes.iter().position(|known| **known == *name) {
            return ClassId::at(at);
        }
        if self.classes.len() < MAX_CLASSES {
            self.classes.push(name.into());
        }
        // Beyond the limit, the last one stands for all.
        ClassId::at(self.classes.len() - 1)
    }

    /// The name of a worker class.
    #[must_use]
    pub fn class_name(&self, id: ClassId) -> Arc<str> {
        self.classes
            .get(id.index())
            .cloned()
            .unwrap_or_else(|| "".into())
    }

    /// Counts a request of a worker of this class.
    pub fn request(
        &mut self,
        settings: &Settings,
        class: &str,
        request: &Request,
        analysis: &ErrorAnalysis,
    ) -> (ClassId, Outcome) {
        let class = self.class(class);
        let times = self.phases.entry(class).or_insert_with(no_phases);
        for (phase, ns) in phases(request) {
            times[phase as usize].observe(ns);
        }
        let not_found = matches!(request.status, Some(404 | 405));
        let route = match &request.path {
            None => RouteId::UNKNOWN,
            Some(path) => self.routes.of(
                &settings.routes,
                settings.route_limit,
                path,
                request.path_cut,
                not_found || request.bad_request,
            ),
        };
        let method = Method::of(request.method.as_deref());
        if let Some(ns) = duration_ns(request) {
            let key = HttpKey {
                class,
                method,
                route,
                status: request.status,
            };
            self.http(settings, key).observe(ns);
        }
        if let Some(status @ 500..) = request.status {
            let (error, raised_in) = self.named(settings, &analysis.cause);
            let key = HttpErrorKey {
                class,
                method,
                route,
                status,
                error,
                raised_in,
            };
            self.http_error(settings, key, 1);
        }
        let outcome = self.outcome(settings, method, route, request, analysis);
        let totals = self.totals.entry(class).or_default();
        totals.request(request, &outcome);
        (class, outcome)
    }

    /// What failed, by names that there is room for.
    fn named(&mut self, settings: &Settings, cause: &Cause) -> (ErrorType, String) {
        let (error, raised_in) = match cause {
            Cause::Unknown => (ErrorType::Unknown, ""),
            Cause::None => (ErrorType::None, ""),
            Cause::Raised(failure) => (
                ErrorType::Class(failure.raised.error.clone()),
                failure.raised.raised_in.as_str(),
            ),
        };
        (
            self.names.error_type(&error, settings.route_limit),
            self.names.place(raised_in, settings.route_limit),
        )
    }

    fn outcome(
        &mut self,
        settings: &Settings,
        method: Method,
        route: RouteId,
        request: &Request,
        analysis: &ErrorAnalysis,
    ) -> Outcome {
        let mut key = |error| ErrorKey {
            method,
            route,
            error: self.names.error_type(&error, settings.route_limit),
        };
        let failed = match &analysis.cause {
            _ if request.bad_request || request.entered_ns.is_none() => None,
            Cause::Raised(failure) if analysis.has_left || request.was_cut => {
                Some(ErrorType::Class(failure.raised.error.clone()))
            }
            // It never came to its end, and nobody told why.
            _ if request.was_cut && !request.client_gone && !analysis.client_gone => {
                Some(ErrorType::Unknown)
            }
            _ => None,
        };
        let handled = request.error_handled.then(|| match &analysis.gunicorns {
            Some(class) => ErrorType::Class(class.clone()),
            None => ErrorType::Unknown,
        });
        let is_gone = request.client_gone || analysis.client_gone;
        Outcome {
            method,
            route,
            is_error: matches!(request.status, Some(500..)) || request.was_cut && !is_gone,
            failed: failed.map(&mut key),
            handled: handled.map(&mut key),
        }
    }

    fn http_error(&mut self, settings: &Settings, mut key: HttpErrorKey, count: u64) {
        let limit = settings.route_limit.saturating_mul(SERIES_PER_ROUTE);
        if self.http_errors.len() >= limit && !self.http_errors.contains_key(&key) {
            key.route = RouteId::OTHER;
            key.error = ErrorType::Other;
            OTHER.clone_into(&mut key.raised_in);
            self.names.capped += count;
        }
        *self.http_errors.entry(key).or_default() += count;
    }

    /// The counts of a worker as they are named here, where it comes from `other`.
    pub fn translate(
        &mut self,
        settings: &Settings,
        other: &Self,
        counters: &Counters,
    ) -> Counters {
        let mut translate = |errors: &Errors| {
            let mut translated = Errors::new();
            for (key, count) in errors {
                let key = ErrorKey {
                    method: key.method,
                    route: self.route_of(settings, other, key.route),
                    error: self.names.error_type(&key.error, settings.route_limit),
                };
                add(&mut translated, key, *count);
            }
            translated
        };
        Counters {
            failed: translate(&counters.failed),
            handled: translate(&counters.handled),
            ..counters.clone()
        }
    }

    /// A route of another one as it is called here.
    fn route_of(&mut self, settings: &Settings, other: &Self, route: RouteId) -> RouteId {
        match route {
            RouteId::UNKNOWN | RouteId::OTHER => route,
            id => {
                let name = other.routes.name(id);
                let admitted = self.routes.admit(name, settings.route_limit);
                admitted.unwrap_or(RouteId::OTHER)
            }
        }
    }

    /// Takes over all counts of another one; those of its unnamed class under `class`.
    pub fn absorb(&mut self, settings: &Settings, other: &Self, class: &str) {
        let renamed = self.rename(other, class);
        for (id, counters) in &other.totals {
            let id = renamed.get(id.index()).unwrap_or(id);
            let counters = self.translate(settings, other, counters);
            self.totals.entry(*id).or_default().merge(&counters);
        }
        self.routes.add_capped(other.routes.capped());
        self.names.capped += other.names.capped;
        self.absorb_shared(settings, other, class);
    }

    /// Takes over what is told apart by the app's name only.
    pub fn absorb_shared(&mut self, settings: &Settings, other: &Self, class: &str) {
        let renamed = self.rename(other, class);
        let rename = |id: ClassId| renamed.get(id.index()).copied().unwrap_or(id);
        for (&id, theirs) in &other.phases {
            let mine = self.phases.entry(rename(id)).or_insert_with(no_phases);
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                mine.merge(theirs);
            }
        }
        for (key, histogram) in &other.http {
            let route = self.route_of(settings, other, key.route);
            if route == RouteId::OTHER && key.route != route {
                self.routes.add_capped(histogram.count());
            }
            let key = HttpKey {
                class: rename(key.class),
                route,
                ..*key
            };
            self.http(settings, key).merge(histogram);
        }
        for (key, count) in &other.http_errors {
            let key = HttpErrorKey {
                class: rename(key.class),
                route: self.route_of(settings, other, key.route),
                error: self.names.error_type(&key.error, settings.route_limit),
                raised_in: self.names.place(&key.raised_in, settings.route_limit),
                ..*key
            };
            self.http_error(settings, key, *count);
        }
    }

    /// The classes of another one as they are called here.
    fn rename(&mut self, other: &Self, class: &str) -> Vec<ClassId> {
        let names = other.classes.iter();
        names
            .map(|name| self.class(if name.is_empty() { class } else { name }))
            .collect()
    }

    fn http(&mut self, settings: &Settings, mut key: HttpKey) -> &mut Histogram {
        let limit = settings.route_limit.saturating_mul(SERIES_PER_ROUTE);
        if self.http.len() >= limit && !self.http.contains_key(&key) {
            key.route = RouteId::OTHER;
            self.routes.add_capped(1);
        }
        self.http
            .entry(key)
            .or_insert_with(|| Histogram::new(&HTTP_DURATION))
    }
}

#[cfg(test)]
#[path = "app_counters_tests.rs"]
mod tests;
