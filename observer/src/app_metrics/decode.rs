//! Entries of a file (`prometheus_client`, `mmap_dict.py`):
//!
//! ```text
//! i32 bytes in use │ 4 bytes │ entry │ entry │ …
//! entry: i32 length of the key │ key │ 1 to 8 spaces, up to a multiple of 8 │ f64 value │ f64 time
//! ```
//!
//! Numbers are in the order of the processor. Before version 0.17 there was no time.

/// Bytes before the first entry.
const HEAD: usize = 8;
/// Bytes of the length of a key.
const LENGTH: usize = 4;
/// Bytes of a number.
const NUMBER: usize = 8;

/// A value of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// JSON: see [`crate::app_metrics::key`].
    pub key: &'a [u8],
    pub value: f64,
    /// Unix time at which the value was set, in seconds; 0 if unknown.
    pub time: f64,
}

/// The file ends, or goes on, other than its lengths say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// How many bytes of a file are in use, from its first ones; 0 for a file that was just made.
///
/// # Errors
/// When the number is negative.
pub fn used(bytes: &[u8]) -> Result<usize, Malformed> {
    let Some(used) = bytes.first_chunk() else {
        // It is made empty, and grows at once.
        return bytes.is_empty().then_some(0).ok_or(Malformed);
    };
    usize::try_from(i32::from_ne_bytes(*used)).map_err(|_| Malformed)
}

/// The entries of a file up to the first malformed one, which is the last item.
pub fn entries(bytes: &[u8]) -> Entries<'_> {
    let found = Entries::new(bytes, 2);
    if found.clone().all(|entry| entry.is_ok()) {
        return found;
    }
    let without_time = Entries::new(bytes, 1);
    if without_time.clone().all(|entry| entry.is_ok()) {
        return without_time;
    }
    found
}

/// See [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    /// The entries not yet read.
    rest: &'a [u8],
    /// What comes after them.
    end: Result<(), Malformed>,
    /// Numbers of an entry.
    numbers: usize,
    is_done: bool,
}

impl<'a> Entries<'a> {
    fn new(bytes: &'a [u8], numbers: usize) -> Self {
        let used = used(bytes);
        let in_use = used.unwrap_or_default().min(bytes.len());
        let is_whole = used.is_ok_and(|used| used == in_use);
        Self {
            rest: bytes.get(HEAD..in_use).unwrap_or_default(),
            end: is_whole.then_some(()).ok_or(Malformed),
            numbers,
            is_done: false,
        }
    }

    fn entry(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        if self.rest.is_empty() {
            return self.end.map(|()| None);
        }
        let (length, after) = self.rest.split_first_chunk::<LENGTH>().ok_or(Malformed)?;
        let length = usize::try_from(i32::from_ne_bytes(*length)).map_err(|_| Malformed)?;
        let padding = NUMBER - (length % NUMBER + LENGTH) % NUMBER;
        let (key, after) = after.split_at_checked(length).ok_or(Malformed)?;
        let after = after.get(padding..).ok_or(Malformed)?;
        let (value, mut after) = number(after)?;
        let mut time = 0.0;
        if self.numbers > 1 {
            (time, after) = number(after)?;
        }
        // Each key is a list: else the lengths lead astray.
        if !key.starts_with(b"[") || !key.ends_with(b"]") {
            return Err(Malformed);
        }
        self.rest = after;
        Ok(Some(Entry { key, value, time }))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let entry = self.entry().transpose();
        self.is_done = !matches!(entry, Some(Ok(_)));
        entry
    }
}

fn number(bytes: &[u8]) -> Result<(f64, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER>().ok_or(Malformed)?;
    Ok((f64::from_ne_bytes(*number), rest))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
pub(super) mod tests;
