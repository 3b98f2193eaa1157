//! Versions of Gunicorn: those of docs/MATRIX.md are supported.

/// The oldest, major and minor.
const OLDEST: (u32, u32) = (19, 10);
/// The newest major version.
const NEWEST: u32 = 27;

/// The supported versions, such as `Gunicorn 19.10 to 27`.
#[must_use]
pub fn supported() -> String {
    let (major, minor) = OLDEST;
    format!("Gunicorn {major}.{minor} to {NEWEST}")
}

/// Whether a version such as `23.0.0` is supported; `None` if the text is no version.
#[must_use]
pub fn is_supported(version: &str) -> Option<bool> {
    let mut parts = version.split('.');
    let major: u32 = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|minor| minor.parse::<u32>().ok());
    Some(OLDEST <= (major, minor.unwrap_or(0)) && major <= NEWEST)
}

/// Whether workers send their heartbeat on the monotonic clock: from 22.0 on; an unknown version is taken
/// for a new one.
#[must_use]
pub fn has_monotonic_heartbeat(version: &str) -> bool {
    is_from(22, version)
}

/// Whether the worker class `asgi` makes a task for each request: from 27.0 on; an unknown version is taken
/// for a new one.
#[must_use]
pub fn has_tasks(version: &str) -> bool {
    is_from(27, version)
}

fn is_from(first: u32, version: &str) -> bool {
    let major = version.split('.').next();
    major
        .and_then(|major| major.parse::<u32>().ok())
        .is_none_or(|major| major >= first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_the_oldest_to_the_newest_are_supported() {
        for (version, expected) in [
            ("19.10.0", Some(true)),
            ("27.0.1", Some(true)),
            ("20.1.0", Some(true)),
            ("19.9.0", Some(false)),
            ("18.0", Some(false)),
            ("28.0.0", Some(false)),
            ("", None),
            ("dev", None),
        ] {
            assert_eq!(is_supported(version), expected, "{version}");
        }
        assert_eq!(supported(), "Gunicorn 19.10 to 27");
    }

    #[test]
    fn the_oldest_and_the_newest_are_those_of_the_matrix() {
        let document = include_str!("../../../docs/MATRIX.md");
        let versions = document.lines().filter_map(|line| {
            let mut parts = line.split('|').nth(2)?.trim().split('.');
            let number = |part: Option<&str>| part?.parse::<u32>().ok();
            Some((number(parts.next())?, number(parts.next())?))
        });
        let versions: Vec<_> = versions.collect();
        assert_eq!(versions.iter().min(), Some(&OLDEST));
        let newest = versions.iter().max().map(|(major, _)| *major);
        assert_eq!(newest, Some(NEWEST));
    }
}
