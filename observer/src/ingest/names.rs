//! Names of classes and frames, as developers know them. They come from untrusted processes, and may
//! have been cut.

use observer_model::event::{Class, Frame};

/// Folders of installed packages.
const INSTALLED: [&str; 2] = ["/site-packages/", "/dist-packages/"];
/// Before the version in the folder of the standard library.
const LIBRARY: &str = "/python3.";
/// Before the name of a function within a function (`co_qualname`).
const WITHIN: &str = "<locals>.";

/// A class: `tp_name` up to a zero, and `__module__`.
#[must_use]
pub fn class(name: &[u8], module: &[u8]) -> Class {
    let end = name.iter().position(|&byte| byte == 0);
    let name = String::from_utf8_lossy(name.get(..end.unwrap_or(name.len())).unwrap_or(name));
    // The last character may have been cut.
    let name = match end {
        Some(_) => &*name,
        None => name.trim_end_matches(char::REPLACEMENT_CHARACTER),
    };
    let module = latin1(module);
    // Some classes defined in C have their module in both.
    let name = name
        .strip_prefix(&module)
        .and_then(|name| name.strip_prefix('.'))
        .unwrap_or(name);
    let (module, name) = match (module.as_str(), name.rsplit_once('.')) {
        // A class defined in C, such as `zlib.error`.
        ("", Some((module, name))) => (module.to_owned(), name),
        ("", None) if !name.is_empty() => ("builtins".to_owned(), name),
        _ => (module, name),
    };
    Class {
        module: module.into(),
        name: name.to_owned().into(),
    }
}

/// A frame: `__name__` of its module, then function and file, each with the bytes of a character.
/// With `file_cut`, only the end of the file's path was captured.
#[must_use]
pub fn frame(module: &[u8], function: (&[u8], u8), file: (&[u8], u8), file_cut: bool) -> Frame {
    let module = latin1(module);
    let function = self::function(&text(function)).to_owned();
    let path = text(file);
    Frame {
        file: relative(&path, &module, file_cut).into(),
        is_own: is_own(&path),
        is_installed: is_installed(&path),
        module: module.into(),
        function: function.into(),
    }
}

/// A function by its qualified name, without the functions that it is within.
#[must_use]
pub fn function(qualified: &str) -> &str {
    match qualified.rsplit_once(WITHIN) {
        Some((_, inner)) if !inner.is_empty() => inner,
        _ => qualified,
    }
}

/// A file of an unknown module.
#[must_use]
pub fn file(path: &str) -> String {
    relative(path, "", false)
}

/// A file as its package has it: `shop/views.py` of the module `shop.views`.
fn relative(path: &str, module: &str, is_cut: bool) -> String {
    let stem = module.replace('.', "/");
    for name in [format!("{stem}.py"), format!("{stem}/__init__.py")] {
        let is_it = |rest: &str| rest.is_empty() || rest.ends_with('/');
        if !stem.is_empty() && path.strip_suffix(&name).is_some_and(is_it) {
            return name;
        }
    }
    let installed = INSTALLED.iter().find_map(|folder| after(path, folder));
    let library = || {
        let (_, rest) = path.rsplit_once(LIBRARY)?;
        rest.split_once('/').map(|(_version, rest)| rest)
    };
    let last = || path.rsplit('/').next();
    // Code that is not from a file has angle brackets: `<string>`.
    let whole = || Some(path).filter(|path| path.starts_with('<') && !is_cut);
    let name = installed.or_else(library).or_else(whole).or_else(last);
    name.unwrap_or(path).to_owned()
}

fn after<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.rsplit_once(folder).map(|(_, rest)| rest)
}

/// Whether a file belongs neither to an installed package nor to the standard library.
#[must_use]
pub fn is_own(path: &str) -> bool {
    let is_library = path
        .rsplit_once(LIBRARY)
        .is_some_and(|(_, rest)| rest.contains('/'));
    !(path.is_empty() || path.starts_with('<') || is_installed(path) || is_library)
}

fn is_installed(path: &str) -> bool {
    INSTALLED.iter().any(|folder| path.contains(folder))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Characters of one, two or four bytes, as `PyUnicode_KIND` has them.
fn text((bytes, width): (&[u8], u8)) -> String {
    match width {
        2 => {
            let (units, _) = bytes.as_chunks();
            points(
                units
                    .iter()
                    .map(|&unit| u32::from(u16::from_le_bytes(unit))),
            )
        }
        4 => {
            let (units, _) = bytes.as_chunks();
            points(units.iter().map(|&unit| u32::from_le_bytes(unit)))
        }
        _ => latin1(bytes),
    }
}

/// Lone surrogates, which Python allows, become replacement characters.
fn points(points: impl Iterator<Item = u32>) -> String {
    points
        .map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, module: &str) -> String {
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        let Class { module, name } = class(&bytes, module.as_bytes());
        format!("{}:{}", module.raw(), name.raw())
    }

    #[test]
    fn a_class_has_its_module_from_where_it_was_written() {
        assert_eq!(named("ValueError", ""), "builtins:ValueError");
        assert_eq!(named("zlib.error", ""), "zlib:error");
        assert_eq!(named("OutOfStock", "shop.cart"), "shop.cart:OutOfStock");
        assert_eq!(named("Überlauf", "shop"), "shop:Überlauf");
        assert_eq!(named("a.b", "shop"), "shop:a.b");
        assert_eq!(named("ssl.SSLError", "ssl"), "ssl:SSLError");
        assert_eq!(named("", ""), ":");
        // Cut in the middle of a character.
        assert_eq!(class(b"\xc3\x9cber\xc3", b"m").name, "Über");
        assert_eq!(class(b"\xff\xfe\0", b"").name, "\u{fffd}\u{fffd}");
    }

    fn file(path: &str, module: &str) -> (String, bool) {
        let frame = frame(module.as_bytes(), (b"f", 1), (path.as_bytes(), 1), false);
        (frame.file.raw().to_owned(), frame.is_own)
    }

    #[test]
    fn a_file_is_named_from_the_root_of_its_package() {
        let own = |path, module| {
            let (name, is_own) = file(path, module);
            assert!(is_own, "{path}");
            name
        };
        assert_eq!(own("/srv/app/shop/views.py", "shop.views"), "shop/views.py");
        assert_eq!(own("/srv/app/shop/__init__.py", "shop"), "shop/__init__.py");
        assert_eq!(own("wsgi.py", "wsgi"), "wsgi.py");
        assert_eq!(own("/srv/app/run.py", "__main__"), "run.py");
        assert_eq!(own("/srv/workshop/views.py", "shop.views"), "views.py");
        assert_eq!(own("/srv/app/run.py", ""), "run.py");
        let library = |path, module| {
            let (name, is_own) = file(path, module);
            assert!(!is_own, "{path}");
            name
        };
        let json = "/usr/lib/python3.11/json/decoder.py";
        assert_eq!(library(json, "json.decoder"), "json/decoder.py");
        assert_eq!(library(json, ""), "json/decoder.py");
        let flask = "/venv/lib/python3.12/site-packages/flask/app.py";
        assert_eq!(library(flask, "flask.app"), "flask/app.py");
        assert_eq!(library(flask, "other"), "flask/app.py");
        assert_eq!(library("<string>", "shop"), "<string>");
        assert_eq!(library("", ""), "");
    }

    #[test]
    fn a_function_is_named_without_those_around_it() {
        let function =
            |name: &[u8], width| frame(b"m", (name, width), (b"m.py", 1), false).function;
        assert_eq!(function(b"checkout", 1), "checkout");
        assert_eq!(function(b"Cart.total", 1), "Cart.total");
        assert_eq!(function(b"create_app.<locals>.index", 1), "index");
        assert_eq!(function(b"f.<locals>.", 1), "f.<locals>.");
        assert_eq!(function(b"caf\xe9", 1), "café");
        assert_eq!(function(&[0x16, 0x04, 0x3b, 0x04], 2), "\u{416}\u{43b}");
        assert_eq!(function(&[0x00, 0xf6, 0x01, 0x00], 4), "\u{1f600}");
        assert_eq!(function(&[0x00, 0xd8], 2), "\u{fffd}");
    }
}
