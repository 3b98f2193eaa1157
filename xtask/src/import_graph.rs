//! A test of every crate: no circle between its top-level modules.
//!
//! An import is a path that begins with `crate::` or `super::`, in a `use` or in code. Modules that
//! only tests have are left out.

mod circle;
mod modules;
mod paths;
mod tokens;

use std::{fs, path::Path};

/// Folders of this repository with a crate in them.
fn crates(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders(root) {
        found.extend(folders(&folder));
        found.push(folder);
    }
    let is_crate = |folder: &&std::path::PathBuf| {
        folder.join("Cargo.toml").is_file() && folder.join("src").is_dir()
    };
    let mut names: Vec<_> = found
        .iter()
        .filter(is_crate)
        .filter_map(|folder| Some(folder.strip_prefix(root).ok()?.to_str()?.to_owned()))
        .collect();
    names.sort_unstable();
    names
}

fn folders(of: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(of) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && !path.ends_with("target"))
        .collect()
}

/// Imports that are part of a circle between the top-level modules of a crate, one a line.
fn circles(folder: &Path) -> Vec<String> {
    ["lib.rs", "main.rs"]
        .into_iter()
        .map(|root| folder.join("src").join(root))
        .filter(|root| root.is_file())
        .flat_map(|root| circle::lines(&modules::imports(&root)))
        .collect()
}

#[test]
fn no_crate_has_a_circle_between_its_top_level_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let crates = crates(root);
    assert!(crates.len() >= 4, "only found {crates:?}");
    for name in crates {
        let circles = circles(&root.join(&name));
        assert!(circles.is_empty(), "{name}:\n{}", circles.join("\n"));
    }
}
