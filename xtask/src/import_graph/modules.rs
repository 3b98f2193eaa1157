//! The imports between the top-level modules of a crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::paths;

/// One module uses another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub from: String,
    pub to: String,
    /// The path as resolved, and the file that has it.
    pub evidence: String,
}

struct File {
    /// Names of modules from the root of the crate.
    module: Vec<String>,
    path: PathBuf,
    imports: Vec<Vec<String>>,
}

/// The imports between the top-level modules of the crate with this root. Where the root declares
/// a single module, between the modules of that one.
pub fn imports(root: &Path) -> Vec<Import> {
    let mut files = Vec::new();
    collect(root, Vec::new(), &mut files);
    let room = room(&files);
    let name_in = |module: &[String]| -> Option<String> {
        module.strip_prefix(room.as_slice())?.first().cloned()
    };
    let is_module = |name: &str| {
        files
            .iter()
            .any(|file| name_in(&file.module).as_deref() == Some(name))
    };
    let mut found = Vec::new();
    for file in &files {
        let Some(from) = name_in(&file.module) else {
            continue;
        };
        for path in &file.imports {
            let Some(to) = name_in(path).filter(|to| *to != from && is_module(to)) else {
                continue;
            };
            found.push(Import {
                from: from.clone(),
                to,
                evidence: format!("{}: crate::{}", file.path.display(), path.join("::")),
            });
        }
    }
    found
}

fn room(files: &[File]) -> Vec<String> {
    let mut top: Vec<_> = files
        .iter()
        .filter_map(|file| file.module.first())
        .collect();
    top.dedup();
    match top.as_slice() {
        [only] => vec![(*only).clone()],
        _ => Vec::new(),
    }
}

/// Reads a file, and those of the modules it declares.
fn collect(path: &Path, module: Vec<String>, files: &mut Vec<File>) {
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let source = paths::read(&text);
    let folder = path.parent().unwrap_or(path);
    let is_root = module.is_empty() || path.ends_with("mod.rs");
    let children = if is_root {
        folder.to_owned()
    } else {
        path.with_extension("")
    };
    for (name, named_path) in &source.modules {
        let mut child = module.clone();
        child.push(name.clone());
        let candidates = match named_path {
            Some(path) => vec![folder.join(path)],
            None => vec![
                children.join(format!("{name}.rs")),
                children.join(name).join("mod.rs"),
            ],
        };
        if let Some(path) = candidates.iter().find(|path| path.is_file()) {
            collect(path, child, files);
        }
    }
    let imports = source
        .paths
        .iter()
        .map(|path| resolved(path, &module))
        .collect();
    files.push(File {
        module,
        path: path.to_owned(),
        imports,
    });
}

/// A path from the root of the crate.
fn resolved(path: &[String], module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|word| *word == "super").count();
    if ups == 0 {
        return path[1..].to_vec();
    }
    let base = &module[..module.len().saturating_sub(ups)];
    [base, &path[ups..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str) -> Vec<String> {
        path.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn paths_are_resolved_from_their_module() {
        for (path, module, expected) in [
            ("crate::a::b", "c", "a::b"),
            ("super::a", "b::c", "b::a"),
            ("super::super::a", "b::c", "a"),
        ] {
            assert_eq!(resolved(&words(path), &words(module)), words(expected));
        }
    }

    #[test]
    fn imports_of_a_crate_are_read_from_its_files() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let root = folder.path().join("lib.rs");
        for (name, text) in [
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod c;"),
            ("a.rs", "use crate::b::X; mod deep;"),
            ("b.rs", "use crate::missing;"),
            ("c.rs", "use crate::a;"),
            ("a/deep.rs", "use super::super::b; use super::Y;"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let found = imports(&root);
        let pairs: Vec<_> = found
            .iter()
            .map(|it| format!("{}->{}", it.from, it.to))
            .collect();
        assert_eq!(pairs, ["a->b", "a->b"]);
    }
}
