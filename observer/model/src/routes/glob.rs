//! Patterns with `*` and `**`, as routes and paths are matched with them.

/// What one part between slashes is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// `**`: any number of segments, whatever they are.
    Any,
    /// One segment; `*` stands for some of it or all, but never for an empty one.
    Glob(String),
}

/// Whether these segments are as wanted.
#[must_use]
pub fn matches(wanted: &[Segment], segments: &[&str]) -> bool {
    let is_any = |segment: &Segment| matches!(segment, Segment::Any);
    let fits = |segment: &Segment, text: &&str| match segment {
        Segment::Any => true,
        Segment::Glob(glob) if glob.is_empty() => text.is_empty(),
        Segment::Glob(glob) => !text.is_empty() && segment_matches(glob, text),
    };
    wildcard(wanted, segments, is_any, fits)
}

fn segment_matches(glob: &str, text: &str) -> bool {
    wildcard(
        glob.as_bytes(),
        text.as_bytes(),
        |&g| g == b'*',
        |g, t| g == t,
    )
}

/// Matches a sequence against a pattern with "any number of items" in it.
/// Only the last such item is ever tried again, so the time is bounded by the product.
fn wildcard<P, T>(
    pattern: &[P],
    items: &[T],
    is_any: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(item) = items.get(t) {
        match pattern.get(p) {
            Some(any) if is_any(any) => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(one) if fits(one, item) => {
                p += 1;
                t += 1;
            }
            _ => match retry.as_mut() {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(is_any)
}
