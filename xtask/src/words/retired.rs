//! The words that this project no longer uses, each with its replacement.

/// A word or phrase, and what to write in its place.
pub struct Retired {
    /// Lower-case words with one space between them.
    pub phrase: &'static str,
    pub instead: &'static str,
}

const fn retired(phrase: &'static str, instead: &'static str) -> Retired {
    Retired { phrase, instead }
}

pub const RETIRED: &[Retired] = &[
    retired("told apart", "distinguished, labelled by"),
    retired(
        "told",
        "reported, shown, recorded; a name that says what it is",
    ),
    retired("tells", "reports, shows, says"),
    retired("tell apart", "distinguish"),
    retired("likewise", "also, the same for…"),
    retired("anew", "again"),
    retired("for want of", "because there is no…"),
    retired("in vain", "without success"),
    retired("in so many words", "explicitly"),
    retired("manyeth", "n-th"),
    retired("closer look", "deep capture"),
    retired("closer looks", "deep captures"),
    retired("look closer", "capture"),
    retired("looks closer", "captures"),
    retired("looked closer", "captured"),
    retired("deep errors", "deep capture"),
    retired("unwound", "deep capture; captured"),
    retired("cure", "fix"),
    retired("cures", "fixes"),
    retired("cured", "fixed"),
    retired("mend", "fix"),
    retired("mends", "fixes"),
    retired("mended", "fixed"),
    retired("dear", "expensive; slowdown"),
    retired("dearer", "more expensive"),
    retired("collection of garbage", "garbage collection, GC pause"),
    retired("collections of garbage", "garbage collections, GC pauses"),
    retired("stood still", "was paused, was stopped"),
    retired("who asks", "the client; authentication"),
    retired("who may ask", "authentication"),
    retired("what it needs", "requirements"),
    retired("what it lacks", "limitations"),
];
