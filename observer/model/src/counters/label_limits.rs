//! LabelLimits that an app brings along: at most so many, the rest is `other`.

use crate::event::Class;
use std::collections::{BTreeMap, BTreeSet};

/// What stands for all names beyond the limit.
pub const OTHER: &str = "other";
/// The type of an error whose exception was not seen.
pub const UNKNOWN: &str = "unknown";
/// Characters of one name.
const MAX_CHARACTERS: usize = 120;

/// The type of an error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorType {
    /// There was no exception.
    None,
    /// It is not known whether there was one, or which.
    Unknown,
    /// Too many were before it.
    Other,
    /// Of this class.
    Class(Class),
}

/// The names of one app's errors.
#[derive(Debug, Default)]
pub struct LabelLimits {
    /// Modules that have a class of this name.
    classes: BTreeMap<String, BTreeSet<String>>,
    class_count: usize,
    places: BTreeSet<String>,
    /// How often one was called `other`.
    pub capped: u64,
}

impl LabelLimits {
    /// A type of error, while there is room for it.
    pub fn error_type(&mut self, of: &ErrorType, limit: usize) -> ErrorType {
        let ErrorType::Class(class) = of else {
            return of.clone();
        };
        let class = Class {
            module: cut(&class.module),
            name: cut(&class.name),
        };
        if class.name.is_empty() {
            return ErrorType::Unknown;
        }
        let modules = self.classes.get(&class.name);
        if modules.is_some_and(|modules| modules.contains(&class.module)) {
            return ErrorType::Class(class);
        }
        if self.class_count >= limit {
            self.capped += 1;
            return ErrorType::Other;
        }
        self.class_count += 1;
        let modules = self.classes.entry(class.name.clone()).or_default();
        modules.insert(class.module.clone());
        ErrorType::Class(class)
    }

    /// A place, likewise.
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

    /// A type as it is shown: with its module where two classes share a name.
    #[must_use]
    pub fn shown(&self, of: &ErrorType) -> String {
        match of {
            ErrorType::None => String::new(),
            ErrorType::Unknown => UNKNOWN.to_owned(),
            ErrorType::Other => OTHER.to_owned(),
            ErrorType::Class(Class { module, name }) => {
                let is_shared = self.classes.get(name).is_some_and(|of| of.len() > 1);
                if is_shared {
                    format!("{module}.{name}")
                } else {
                    name.clone()
                }
            }
        }
    }
}

/// LabelLimits are as long as who made them likes, and have any character in them.
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
            module: module.to_owned(),
            name: name.to_owned(),
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
