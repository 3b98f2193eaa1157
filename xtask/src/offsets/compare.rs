//! Compares a layout with debug information.

use std::{collections::BTreeSet, fmt};

use probe_ebpf::python::Layout;

use super::fields::{self, CONSTANTS, FIELDS, Source, UNUSED};

/// The value of a [`Source`] in the debug information: a byte, or of a bit field its bit and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    pub value: u64,
    pub bits: Option<u64>,
}

impl Derived {
    /// That of [`Source::Unused`].
    const UNUSED: Self = Self::byte(UNUSED);

    pub const fn byte(value: u64) -> Self {
        Self { value, bits: None }
    }

    pub const fn bits(value: u64, bits: u64) -> Self {
        Self {
            value,
            bits: Some(bits),
        }
    }
}

impl fmt::Display for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.bits) {
            (UNUSED, None) => f.write_str("none"),
            (value, None) => write!(f, "{value}"),
            (bit, Some(bits)) => write!(f, "{bits} bits from bit {bit}"),
        }
    }
}

/// A value that differs from the interpreter's.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    minor: u8,
    /// A field of the layout, or an assumption of the code.
    name: &'static str,
    source: Source,
    ours: Derived,
    theirs: Result<Derived, String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            minor,
            name,
            source,
            ours,
            theirs,
        } = self;
        write!(f, "3.{minor} {name}: we have {ours}, {source} is ")?;
        match theirs {
            Ok(Derived::UNUSED) => write!(f, "used"),
            Ok(theirs) => write!(f, "{theirs}"),
            Err(error) => write!(f, "not there: {error}"),
        }
    }
}

/// The structures to look up.
pub fn structures() -> Vec<&'static str> {
    let fields = FIELDS
        .iter()
        .flat_map(|field| field.since)
        .map(|(_, source)| source);
    let constants = CONSTANTS.iter().map(|constant| &constant.source);
    let names = fields.chain(constants).filter_map(|source| match source {
        Source::Member(structure, _) | Source::Size(structure) => Some(*structure),
        Source::Unused | Source::Elsewhere(_) => None,
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The number of fields of a version's layout that can be compared.
pub fn derivable(minor: u8) -> usize {
    let known = |source| !matches!(source, Source::Elsewhere(_));
    FIELDS
        .iter()
        .filter(|field| known(field.source(minor)))
        .count()
}

/// The number of constants that are compared for a version.
pub fn constants(minor: u8) -> usize {
    CONSTANTS
        .iter()
        .filter(|constant| constant.since <= minor)
        .count()
}

/// Compares the layout of CPython 3.`minor`, and the assumptions about it.
pub fn compare(
    layout: &Layout,
    minor: u8,
    derive: impl Fn(Source) -> anyhow::Result<Derived>,
) -> Vec<Difference> {
    let fields = FIELDS.iter().zip(fields::values(layout));
    let fields = fields.map(|(field, value)| {
        let ours = Derived::byte(value.into());
        (field.name, field.source(minor), ours)
    });
    let constants = CONSTANTS.iter().filter(|constant| constant.since <= minor);
    let constants = constants.map(|constant| ("(every version)", constant.source, constant.value));
    fields
        .chain(constants)
        .filter_map(|(name, source, ours)| {
            let theirs = match source {
                Source::Elsewhere(_) => return None,
                Source::Unused => Ok(Derived::UNUSED),
                Source::Member(..) | Source::Size(_) => derive(source),
            };
            if theirs.as_ref().is_ok_and(|theirs| *theirs == ours) {
                return None;
            }
            Some(Difference {
                minor,
                name,
                source,
                ours,
                theirs: theirs.map_err(|error| format!("{error:#}")),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_ebpf::python::tables::CPYTHON_3_11;

    /// An interpreter with the values of 3.11's table.
    fn agreeing(source: Source) -> anyhow::Result<Derived> {
        let fields = FIELDS.iter().zip(fields::values(&CPYTHON_3_11));
        let fields = fields.map(|(field, value)| (field.source(11), Derived::byte(value.into())));
        let constants = CONSTANTS.iter().map(|it| (it.source, it.value));
        fields
            .chain(constants)
            .find(|(of, _)| *of == source)
            .map(|(_, value)| value)
            .ok_or_else(|| anyhow::anyhow!("no such member"))
    }

    #[test]
    fn a_layout_that_agrees_has_no_difference() {
        assert_eq!(compare(&CPYTHON_3_11, 11, agreeing), []);
    }

    #[test]
    fn a_wrong_value_is_named_with_version_field_and_both_values() {
        let layout = Layout {
            frame_back: 40,
            ..CPYTHON_3_11
        };
        let found = compare(&layout, 11, agreeing);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["3.11 frame_back: we have 40, _PyInterpreterFrame.previous is 48"]
        );
    }

    #[test]
    fn a_member_that_is_gone_is_a_difference() {
        let gone = |source| match source {
            Source::Member("PyDictObject", "ma_keys") => Err(anyhow::anyhow!("no `ma_keys`")),
            _ => agreeing(source),
        };
        let found = compare(&CPYTHON_3_11, 11, gone);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["3.11 dict_keys: we have 32, PyDictObject.ma_keys is not there: no `ma_keys`"]
        );
    }

    #[test]
    fn what_a_version_lacks_must_be_marked_so() {
        let found = compare(&CPYTHON_3_11, 10, agreeing);
        let lacking = found.iter().find(|it| it.name == "code_qualname");
        assert_eq!(
            lacking.map(ToString::to_string).as_deref(),
            Some("3.10 code_qualname: we have 128, nothing of this version is used")
        );
    }
}
