//! Circles in a graph of imports.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::Import;

/// The imports that are part of a circle, one a line: `a -> b` and where it stands.
pub fn lines(imports: &[Import]) -> Vec<String> {
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in imports {
        uses.entry(&import.from).or_default().insert(&import.to);
    }
    let in_circle = |import: &&Import| reaches(&uses, &import.to, &import.from);
    imports
        .iter()
        .filter(in_circle)
        .map(|import| format!("{} -> {} ({})", import.from, import.to, import.evidence))
        .collect()
}

fn reaches(uses: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            next.extend(uses.get(module).into_iter().flatten());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(&str, &str)]) -> Vec<String> {
        let imports: Vec<_> = pairs
            .iter()
            .map(|(from, to)| Import {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
                evidence: "x.rs".to_owned(),
            })
            .collect();
        lines(&imports)
    }

    #[test]
    fn a_circle_is_found_and_what_leads_to_it_is_not_part_of_it() {
        assert!(found(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
        assert_eq!(
            found(&[("a", "b"), ("b", "c"), ("c", "b")]),
            ["b -> c (x.rs)", "c -> b (x.rs)"]
        );
        assert_eq!(found(&[("a", "b"), ("b", "c"), ("c", "a")]).len(), 3);
    }
}
