//! Names of errors that an app chooses: a limited number, and `other` for the rest.

use crate::errors::fatal_exit::FatalExit;
use crate::event::Class;
use std::collections::{BTreeMap, BTreeSet};

/// The label value of all names beyond the limit.
pub const OTHER: &str = "other";
/// The label value of an error whose exception was not seen.
pub const UNKNOWN: &str = "unknown";
/// Characters of one name.
const MAX_CHARACTERS: usize = 120;

/// The type of an error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorType {
    /// There was no exception.
    None,
    /// The exception was not seen, if there was one.
    Unknown,
    /// A class beyond the limit.
    Other,
    /// The worker exited.
    WorkerExited(FatalExit),
    /// The class of the exception.
    Class(Class),
}

/// The names of one app's errors.
#[derive(Debug, Default)]
pub struct LabelLimits {
    /// Names of classes, and the modules that have a class of the name.
    classes: BTreeMap<String, BTreeSet<String>>,
    class_count: usize,
    places: BTreeSet<String>,
    /// Times that a name became `other`.
    pub capped: u64,
}

impl LabelLimits {
    /// The type of an error: [`ErrorType::Other`] beyond the limit.
    pub fn error_type(&mut self, of: &ErrorType, limit: usize) -> ErrorType {
        let ErrorType::Class(class) = of else {
            return of.clone();
        };
        let class = Class {
            module: cut(class.module.raw()).into(),
            name: cut(class.name.raw()).into(),
        };
        if class.name.is_empty() {
            return ErrorType::Unknown;
        }
        let modules = self.classes.get(class.name.raw());
        if modules.is_some_and(|modules| modules.contains(class.module.raw())) {
            return ErrorType::Class(class);
        }
        if self.class_count >= limit {
            self.capped += 1;
            return ErrorType::Other;
        }
        self.class_count += 1;
        let modules = self.classes.entry(class.name.raw().to_owned()).or_default();
        modules.insert(class.module.raw().to_owned());
        ErrorType::Class(class)
    }

    /// The place of an error: [`OTHER`] beyond the limit.
    pub fn place(&mut self, place: &str, limit: usize) -> String {
        let place = cut(place);
        if place.is_empty() || self.places.contains(&place) {
            return place;
        }
        if self.places.len() >= limit {
            self.capped += 1;
            return OTHER.to_owned();
        }
        self.places.insert(place.clone());
        place
    }

    /// The label value of a type: with its module where two classes share a name.
    #[must_use]
    pub fn shown(&self, of: &ErrorType) -> String {
        match of {
            ErrorType::None => String::new(),
            ErrorType::Unknown => UNKNOWN.to_owned(),
            ErrorType::Other => OTHER.to_owned(),
            ErrorType::WorkerExited(exit) => exit.as_str().to_owned(),
            ErrorType::Class(Class { module, name }) => {
                let is_shared = self.classes.get(name.raw()).is_some_and(|of| of.len() > 1);
                if is_shared {
                    format!("{}.{}", module.raw(), name.raw())
                } else {
                    name.raw().to_owned()
                }
            }
        }
    }
}

/// Cuts a name, and replaces control characters: the app chose it.
fn cut(name: &str) -> String {
    let clean = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut characters = name.chars().map(clean);
    let mut kept: String = characters.by_ref().take(MAX_CHARACTERS).collect();
    if characters.next().is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(module: &str, name: &str) -> ErrorType {
        ErrorType::Class(Class {
            module: module.to_owned().into(),
            name: name.to_owned().into(),
        })
    }

    #[test]
    fn a_class_is_shown_with_its_module_where_another_has_its_name() {
        let mut names = LabelLimits::default();
        let builtin = names.error_type(&class("builtins", "ConnectionError"), 9);
        assert_eq!(names.shown(&builtin), "ConnectionError");
        let other = names.error_type(&class("requests.exceptions", "ConnectionError"), 9);
        assert_eq!(names.shown(&other), "requests.exceptions.ConnectionError");
        assert_eq!(names.shown(&builtin), "builtins.ConnectionError");
        assert_eq!(names.shown(&ErrorType::Unknown), "unknown");
        assert_eq!(names.shown(&ErrorType::None), "");
    }

    #[test]
    fn names_beyond_the_limit_are_other() {
        let mut names = LabelLimits::default();
        for _ in 0..2 {
            for (at, name) in ["A", "B", "C"].into_iter().enumerate() {
                let of = names.error_type(&class("m", name), 2);
                let place = names.place(&format!("m.py:{name}"), 2);
                assert_eq!(of == ErrorType::Other, at == 2);
                assert_eq!(place == OTHER, at == 2);
            }
        }
        assert_eq!(names.capped, 4);
        assert_eq!(names.place("", 2), "");
    }

    #[test]
    fn hostile_names_are_cut_and_have_no_control_characters() {
        let mut names = LabelLimits::default();
        let place = names.place("a\n\u{1b}[2J.py:f", 9);
        assert_eq!(place, "a\u{fffd}\u{fffd}[2J.py:f");
        let long = names.error_type(&class("m", &"x".repeat(500)), 9);
        assert_eq!(names.shown(&long).chars().count(), MAX_CHARACTERS + 1);
        assert_eq!(names.error_type(&class("m", ""), 9), ErrorType::Unknown);
    }
}
