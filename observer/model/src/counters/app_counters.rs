//! Counters of an app. They are never reset while its master lives.

use crate::counters::histogram::{Histogram, PHASE};
use crate::counters::http_series::HttpSeries;
use crate::counters::label_limits::{ErrorType, LabelLimits, OTHER};
use crate::counters::unanswered::Unanswered;
use crate::counters::worker_counters::{
    Counters, ErrorKey, Errors, Outcome, Phase, add, duration_ns, phases,
};
use crate::errors::cause::{Cause, ErrorAnalysis};
use crate::errors::cut_short::CutShort;
use crate::event::{LostFrom, Request};
use crate::routes::registry::RouteRegistry;
use crate::routes::table::RouteId;
use crate::routes::tree::Moved;
use crate::settings::Settings;
use crate::untrusted::Untrusted;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Worker classes of one app; further ones are counted under the last.
const MAX_CLASSES: usize = 32;
/// Series of `http_server_request_duration_seconds` for each route below the limit.
const SERIES_PER_ROUTE: usize = 16;
/// Methods that OpenTelemetry's conventions name; all others are `_OTHER`.
const METHODS: [&str; 10] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
];

/// An index behind all of [`METHODS`].
const UNKNOWN_METHOD: u8 = u8::MAX;

/// Identifies a worker class within its [`AppCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClassId(u8);

/// Series by small ids, in the order in which they came. No client chooses the ids, so they need no
/// secret hash, and a replay has the same order.
pub type ById<K, V> = IndexMap<K, V, FixedState>;

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(u8);

impl Default for Method {
    /// An unknown method.
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

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        METHODS
            .get(usize::from(self.0))
            .copied()
            .unwrap_or("_OTHER")
    }
}

impl ClassId {
    /// An index below [`MAX_CLASSES`].
    fn at(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Durations of each phase, in the order of [`Phase::ALL`].
pub type Phases = [Histogram; Phase::ALL.len()];

fn no_phases() -> Phases {
    Phase::ALL.map(|_| Histogram::new(&PHASE))
}

/// A worker class.
#[derive(Debug)]
struct Class {
    name: Arc<str>,
    phases: Phases,
    unanswered: Unanswered,
}

/// Identifies a series of `http_server_request_duration_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpKey {
    pub class: ClassId,
    pub method: Method,
    pub route: RouteId,
    pub status: Option<u16>,
    /// What ended the request before it was done.
    pub ended_by: Option<CutShort>,
}

impl Hash for HttpKey {
    /// All fields at once: this is done for every request.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let status = u64::from(self.status.unwrap_or(0));
        let labels = u64::from(self.class.0) << 8 | u64::from(self.method.0);
        // Rare: it does not have to be spread.
        state.write_u64(status << 48 | labels << 32 | u64::from(self.route.number()));
    }
}

/// Identifies a series of `gunicorn_http_errors_total`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpErrorKey {
    pub class: ClassId,
    pub method: Method,
    pub route: RouteId,
    /// `None` if the worker exited before it answered.
    pub status: Option<u16>,
    pub error: ErrorType,
    pub raised_in: String,
}

/// The counts of an app.
#[derive(Debug, Default)]
pub struct AppCounters {
    pub routes: RouteRegistry,
    pub names: LabelLimits,
    pub http_errors: BTreeMap<HttpErrorKey, u64>,
    classes: Vec<Class>,
    pub http: ById<HttpKey, HttpSeries>,
    /// Routes that became others; these counters know it, those of workers do not yet.
    moved: Moved,
}

impl AppCounters {
    /// The id of a worker class by its name.
    pub fn class(&mut self, name: &str) -> ClassId {
        let mut classes = self.classes.iter();
        if let Some(at) = classes.position(|known| *known.name == *name) {
            return ClassId::at(at);
        }
        if self.classes.len() < MAX_CLASSES {
            self.classes.push(Class {
                name: name.into(),
                phases: no_phases(),
                unanswered: Unanswered::default(),
            });
        }
        // Beyond the limit, the last class stands for all others.
        ClassId::at(self.classes.len() - 1)
    }

    /// The name of a worker class.
    #[must_use]
    pub fn class_name(&self, id: ClassId) -> Arc<str> {
        let class = self.classes.get(id.index());
        class.map_or_else(|| "".into(), |class| Arc::clone(&class.name))
    }

    /// The phases of requests by class; those that were not seen have no values.
    pub fn phases(&self) -> impl Iterator<Item = (ClassId, &Phases)> {
        let classes = self.classes.iter().enumerate();
        classes.map(|(at, class)| (ClassId::at(at), &class.phases))
    }

    /// Forgets the counts that masters of one app share.
    pub fn clear_shared(&mut self) {
        self.http.clear();
        self.http_errors.clear();
        for class in &mut self.classes {
            class.phases = no_phases();
            class.unanswered = Unanswered::default();
        }
    }

    /// What nobody answered, by class.
    pub fn unanswered(&self) -> impl Iterator<Item = (ClassId, &Unanswered)> {
        let classes = self.classes.iter().enumerate();
        classes.map(|(at, class)| (ClassId::at(at), &class.unanswered))
    }

    /// Counts connections of a worker of the class that were closed without an answer.
    pub fn lost(&mut self, class: ClassId, from: LostFrom, count: u32) {
        if let Some(of) = self.classes.get_mut(class.index()) {
            of.unanswered.lose(from, u64::from(count));
        }
    }

    /// Counts a request of a worker of the class.
    pub fn request(
        &mut self,
        settings: &Settings,
        class: ClassId,
        request: &Request,
        analysis: &ErrorAnalysis,
    ) -> Outcome {
        if let Some(of) = self.classes.get_mut(class.index()) {
            for (phase, ns) in of.phases.iter_mut().zip(phases(request)) {
                if let Some(ns) = ns {
                    phase.observe(ns);
                }
            }
            if !request.bad_request && has_left(request, analysis) {
                of.unanswered.leave(duration_ns(request).unwrap_or(0));
            }
        }
        let not_found = matches!(request.status, Some(404 | 405));
        let route = match &request.path {
            None => RouteId::UNKNOWN,
            Some(path) => self.routes.of(
                &settings.routes,
                settings.route_limit,
                path.raw(),
                request.path_cut,
                not_found || request.bad_request,
            ),
        };
        self.follow_moved();
        let method = Method::of(request.method.as_ref().map(Untrusted::raw));
        if let Some(ns) = duration_ns(request) {
            let key = HttpKey {
                class,
                method,
                route,
                status: request.status,
                ended_by: match analysis.cause {
                    Cause::WorkerExited(exit) => Some(CutShort::Exit(exit)),
                    _ if is_broken(request, analysis) => Some(CutShort::Response),
                    _ => None,
                },
            };
            self.http(settings, key).observe(ns, request);
        }
        let is_failed = request.worker_exited || is_broken(request, analysis);
        if is_failed || matches!(request.status, Some(500..)) {
            let (error, raised_in) = self.named(settings, &analysis.cause);
            let key = HttpErrorKey {
                class,
                method,
                route,
                status: request.status,
                error,
                raised_in,
            };
            self.http_error(settings, key, 1);
        }
        self.outcome(settings, method, route, request, analysis)
    }

    /// The labels of a cause: `other` beyond the limit.
    fn named(&mut self, settings: &Settings, cause: &Cause) -> (ErrorType, String) {
        let (error, raised_in) = match cause {
            Cause::Unknown => (ErrorType::Unknown, ""),
            Cause::None => (ErrorType::None, ""),
            Cause::WorkerExited(exit) => (ErrorType::WorkerExited(*exit), ""),
            Cause::Raised(failure) => (
                ErrorType::Class(failure.raised.error.clone()),
                failure.raised.raised_in.raw(),
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
            Cause::WorkerExited(exit) => Some(ErrorType::WorkerExited(*exit)),
            // It was cut off, and nothing shows why.
            _ if request.was_cut && !request.client_gone && !analysis.client_gone => {
                Some(ErrorType::Unknown)
            }
            _ => None,
        };
        let handled = request.error_handled.then(|| match &analysis.gunicorns {
            Some(class) => ErrorType::Class(class.clone()),
            None => ErrorType::Unknown,
        });
        let is_gone = has_left(request, analysis);
        Outcome {
            method,
            route,
            is_error: matches!(request.status, Some(500..))
                || request.worker_exited
                || is_broken(request, analysis)
                || request.was_cut && !is_gone,
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

    /// The counters of a worker of `other`, with the ids of these counters.
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

    /// The id here of a route of `other`.
    fn route_of(&mut self, settings: &Settings, other: &Self, route: RouteId) -> RouteId {
        match route {
            RouteId::UNKNOWN | RouteId::OTHER => route,
            id => {
                let admitted = self.routes.admit(
                    &settings.routes,
                    settings.route_limit,
                    other.routes.name(id),
                    other.routes.is_found(id),
                );
                admitted.unwrap_or(RouteId::OTHER)
            }
        }
    }

    /// Adds all counts of `other`. Its unnamed class becomes `class`.
    pub fn absorb(&mut self, settings: &Settings, other: &Self, class: &str) {
        self.routes.add_capped(other.routes.capped());
        self.names.capped += other.names.capped;
        self.absorb_shared(settings, other, class);
    }

    /// Adds the counts of `other` that masters of one app share. Its unnamed class becomes `class`.
    pub fn absorb_shared(&mut self, settings: &Settings, other: &Self, class: &str) {
        let renamed = self.rename(other, class);
        let rename = |id: ClassId| renamed.get(id.index()).copied().unwrap_or(id);
        for (id, theirs) in other.phases() {
            let Some(mine) = self.classes.get_mut(rename(id).index()) else {
                continue;
            };
            for (mine, theirs) in mine.phases.iter_mut().zip(theirs) {
                mine.merge(theirs);
            }
        }
        for (id, theirs) in other.unanswered() {
            if let Some(mine) = self.classes.get_mut(rename(id).index()) {
                mine.unanswered.merge(theirs);
            }
        }
        for (key, series) in &other.http {
            let route = self.route_of(settings, other, key.route);
            if route == RouteId::OTHER && key.route != route {
                self.routes.add_capped(series.duration.count());
            }
            let key = HttpKey {
                class: rename(key.class),
                route,
                ..*key
            };
            self.http(settings, key).merge(series);
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
        self.follow_moved();
    }

    /// The ids here of the classes of `other`.
    fn rename(&mut self, other: &Self, class: &str) -> Vec<ClassId> {
        let names = other.classes.iter().map(|other| &*other.name);
        names
            .map(|name| self.class(if name.is_empty() { class } else { name }))
            .collect()
    }

    /// Adds the counts of routes that became others to those of these. Their series never fall
    /// together: no count is lost, and none is counted twice.
    fn follow_moved(&mut self) {
        if !self.routes.has_moved() {
            return;
        }
        let moved = self.routes.take_moved();
        for (key, series) in std::mem::take(&mut self.http) {
            let route = moved.to(key.route);
            let moved_to = self.http.entry(HttpKey { route, ..key });
            moved_to.or_default().merge(&series);
        }
        for (mut key, count) in std::mem::take(&mut self.http_errors) {
            key.route = moved.to(key.route);
            *self.http_errors.entry(key).or_default() += count;
        }
        self.moved.append(moved);
    }

    /// Closes the levels of routes that another master of the same app has closed.
    pub fn agree(&mut self, settings: &Settings, other: &RouteRegistry) {
        self.routes.agree(other, settings.route_limit);
        self.follow_moved();
    }

    /// Whether routes became others since [`Self::take_moved`].
    #[must_use]
    pub fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The routes that became others since the last call. Who holds ids of routes has to follow them.
    #[must_use]
    pub fn take_moved(&mut self) -> Moved {
        std::mem::take(&mut self.moved)
    }

    fn http(&mut self, settings: &Settings, mut key: HttpKey) -> &mut HttpSeries {
        let limit = settings.route_limit.saturating_mul(SERIES_PER_ROUTE);
        if self.http.len() >= limit && !self.http.contains_key(&key) {
            key.route = RouteId::OTHER;
            self.routes.add_capped(1);
        }
        self.http.entry(key).or_default()
    }
}

/// Whether the client left before it had its response.
fn has_left(request: &Request, analysis: &ErrorAnalysis) -> bool {
    request.client_gone || analysis.client_gone
}

/// Whether a response broke off after its head, though its client was still there.
fn is_broken(request: &Request, analysis: &ErrorAnalysis) -> bool {
    // Gunicorn answers what fails before the head; after it, it can only close the connection.
    let has_failed = analysis.has_left && !request.error_handled;
    matches!(request.status, Some(..500))
        && (request.is_incomplete || has_failed)
        && !has_left(request, analysis)
}

#[cfg(test)]
#[path = "app_counters_tests.rs"]
mod tests;
