//! The series of one family: in the order of their labels, and no two with the same labels,
//! whatever names observed processes give themselves.

use super::family::{Family, Kind};
use super::labels::{self, Labels, NONE};
use observer_model::counters::histogram::Histogram;
use std::ops::Range;

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Number(f64),
    Histogram(&'a Histogram),
    /// The sum of several histograms.
    Sum(Box<Histogram>),
}

/// Bytes of a line besides its family and labels: `_bucket`, the limit of a bucket and a number.
const LINE_BYTES: usize = 40;

/// Something that may be the value of a series. Unknown and non-finite values are left out.
pub trait Sample<'a> {
    fn value(self) -> Option<Value<'a>>;
}

impl<'a> Sample<'a> for f64 {
    fn value(self) -> Option<Value<'a>> {
        self.is_finite().then_some(Value::Number(self))
    }
}

impl<'a> Sample<'a> for u64 {
    #[expect(clippy::cast_precision_loss, reason = "an exported value is a float")]
    fn value(self) -> Option<Value<'a>> {
        Some(Value::Number(self as f64))
    }
}

impl<'a> Sample<'a> for u32 {
    fn value(self) -> Option<Value<'a>> {
        Some(Value::Number(self.into()))
    }
}

impl<'a> Sample<'a> for bool {
    fn value(self) -> Option<Value<'a>> {
        u32::from(self).value()
    }
}

impl<'a> Sample<'a> for &'a Histogram {
    fn value(self) -> Option<Value<'a>> {
        Some(Value::Histogram(self))
    }
}

impl<'a, T: Sample<'a>> Sample<'a> for Option<T> {
    fn value(self) -> Option<Value<'a>> {
        self?.value()
    }
}

/// The series of a family, as its reader adds them.
#[derive(Debug)]
pub struct Series<'a> {
    family: &'a Family,
    /// The labels that the series of the present subject begin and end with.
    begin: &'a Labels,
    end: &'a Labels,
    /// Values of the family's own labels, one series after the other.
    own: String,
    entries: Vec<Entry<'a>>,
}

/// One series: the subject's labels with the family's own between them.
#[derive(Debug)]
struct Entry<'a> {
    begin: &'a Labels,
    own: Range<usize>,
    end: &'a Labels,
    value: Value<'a>,
}

impl<'a> Series<'a> {
    #[must_use]
    pub fn new(family: &'a Family) -> Self {
        Self {
            family,
            begin: &NONE,
            end: &NONE,
            own: String::new(),
            entries: Vec::new(),
        }
    }

    /// Sets the labels that series begin and end with, from here on.
    pub fn of(&mut self, begin: &'a Labels, end: &'a Labels) {
        (self.begin, self.end) = (begin, end);
    }

    /// Adds the only series of the subject.
    pub fn put(&mut self, sample: impl Sample<'a>) {
        self.put_for([], sample);
    }

    /// Adds a series with a value for each of the family's own labels.
    pub fn put_for<const N: usize>(&mut self, labels: [&str; N], sample: impl Sample<'a>) {
        debug_assert_eq!(self.family.labels.len(), N, "{}", self.family.name);
        let Some(value) = sample.value() else {
            return;
        };
        let begin = self.own.len();
        for label in labels {
            labels::push_value(&mut self.own, label);
        }
        self.entries.push(Entry {
            begin: self.begin,
            own: begin..self.own.len(),
            end: self.end,
            value,
        });
    }

    /// Sorts the series, and makes one of those with the same labels: counters and histograms are
    /// added up, and of gauges the last one stays.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        let kind = self.family.kind;
        let Self { own, entries, .. } = &mut self;
        let own = |entry: &Entry| &own[entry.own.clone()];
        let order = |a: &Entry, b: &Entry| {
            let by_begin = a.begin.order(b.begin);
            by_begin
                .then_with(|| own(a).cmp(own(b)))
                .then_with(|| a.end.order(b.end))
        };
        entries.sort_by(order);
        entries.dedup_by(|next, first| {
            let is_same = order(first, next).is_eq();
            if is_same {
                first.value.merge(&next.value, kind);
            }
            is_same
        });
        self
    }

    /// Calls `write` for the text of each series' labels, without braces, and its value.
    pub fn each(&self, mut write: impl FnMut(&str, &Value<'a>)) {
        let mut text = String::new();
        for entry in &self.entries {
            text.clear();
            text.push_str(entry.begin.text());
            let values = self.own[entry.own.clone()].split_terminator(labels::END);
            for (name, value) in self.family.labels.iter().zip(values) {
                labels::push_label(&mut text, name, value);
            }
            if !text.is_empty() && !entry.end.text().is_empty() {
                text.push(',');
            }
            text.push_str(entry.end.text());
            write(&text, &entry.value);
        }
    }

    /// The labels of each series, by name, and its value.
    #[cfg(test)]
    pub fn samples(&self) -> impl Iterator<Item = (Vec<(&str, &str)>, &Value<'a>)> {
        self.entries.iter().map(|entry| {
            let values = self.own[entry.own.clone()].split_terminator(labels::END);
            let own = self.family.labels.iter().copied().zip(values);
            let all = entry.begin.pairs().chain(own).chain(entry.end.pairs());
            (all.collect(), &entry.value)
        })
    }

    /// About as many bytes as its text has, or more.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let name = self.family.name.len() + LINE_BYTES;
        let names: usize = self.family.labels.iter().map(|name| name.len() + 4).sum();
        let of = |entry: &Entry| {
            let labels = entry.begin.text().len() + entry.own.len() + entry.end.text().len();
            let lines = match &entry.value {
                Value::Number(_) => 1,
                Value::Histogram(one) => one.buckets() + 2,
                Value::Sum(sum) => sum.buckets() + 2,
            };
            lines * (name + names + labels)
        };
        let described = 2 * (name + self.family.help.len());
        described + self.entries.iter().map(of).sum::<usize>()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn family(&self) -> &'a Family {
        self.family
    }
}

impl Value<'_> {
    fn merge(&mut self, next: &Self, kind: Kind) {
        match (&mut *self, next) {
            (Self::Number(all), Self::Number(next)) if kind == Kind::Counter => *all += next,
            (Self::Number(last), Self::Number(next)) => *last = *next,
            (Self::Histogram(first), Self::Histogram(next)) => {
                let mut all = Box::new(first.clone());
                all.merge(next);
                *self = Self::Sum(all);
            }
            (Self::Sum(all), Self::Histogram(next)) => all.merge(next),
            _ => debug_assert!(false, "a family has values of one type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::{Read, Unit};
    use observer_model::counters::histogram::BODY_SIZE;

    const fn family(kind: Kind) -> Family {
        Family {
            name: "a",
            kind,
            unit: Unit::One,
            labels: &["x"],
            help: "Help.",
            read: Read::Observer(|_, _| ()),
        }
    }

    const COUNTER: Family = family(Kind::Counter);
    const GAUGE: Family = family(Kind::Gauge);
    const HISTOGRAM: Family = family(Kind::Histogram);

    fn lines(series: Series) -> Vec<(String, f64)> {
        let mut lines = Vec::new();
        series.sorted().each(|labels, value| {
            let Value::Number(value) = value else {
                panic!("{value:?} is not a number");
            };
            lines.push((labels.to_owned(), *value));
        });
        lines
    }

    #[test]
    fn series_with_the_same_labels_become_one() {
        for (family, expected) in [(&COUNTER, 5.0), (&GAUGE, 3.0)] {
            let mut series = Series::new(family);
            series.put_for(["1"], 2_u64);
            series.put_for(["0"], 7_u64);
            series.put_for(["1"], 3_u64);
            let expected = [
                (r#"x="0""#.to_owned(), 7.0),
                (r#"x="1""#.to_owned(), expected),
            ];
            assert_eq!(lines(series), expected, "{:?}", family.kind);
        }
    }

    #[test]
    fn histograms_with_the_same_labels_are_added_up() {
        let mut one = Histogram::new(&BODY_SIZE);
        one.observe(7);
        let mut series = Series::new(&HISTOGRAM);
        for _ in 0..3 {
            series.put_for(["1"], &one);
        }
        let series = series.sorted();
        let counts: Vec<_> = series
            .samples()
            .map(|(_, value)| match value {
                Value::Sum(sum) => sum.count(),
                Value::Histogram(_) | Value::Number(_) => 0,
            })
            .collect();
        assert_eq!(counts, [3]);
    }

    #[test]
    fn labels_of_the_subject_stand_around_the_own_ones() {
        let (begin, end) = (Labels::of(&[("a", "1")]), Labels::of(&[("z", "2")]));
        let mut series = Series::new(&GAUGE);
        series.of(&begin, &end);
        series.put_for(["\""], 1_u64);
        assert_eq!(lines(series), [(r#"a="1",x="\"",z="2""#.to_owned(), 1.0)]);
    }

    #[test]
    fn unknown_and_non_finite_values_are_left_out() {
        let mut series = Series::new(&GAUGE);
        series.put_for(["1"], f64::NAN);
        series.put_for(["1"], f64::INFINITY);
        series.put_for(["1"], None::<f64>);
        assert!(series.is_empty());
    }
}
