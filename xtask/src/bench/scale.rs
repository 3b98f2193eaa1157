//! How costs grow with what is observed: what the bench `scale` prints, as a picture and a table.

mod growth;
mod picture;

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result, bail};

use super::printed_by;
use crate::workspace::Workspace;
use growth::exponent;

/// Where the picture is, beside the document that shows it.
const PICTURE: &str = "images/scale.svg";
/// A cost that grows with more than this power of the size grows faster than the size. What is above one
/// is left to caches, which what is large does not fit into, and to the logarithm of sorting.
const MOST: f64 = 1.4;
/// What grows, as the bench names it; as a person does, and with which unit.
const COSTS: [(&str, &str); 5] = [
    ("memory_bytes", "memory"),
    ("look_us", "a look at what is in progress"),
    ("snapshot_us", "a snapshot for a scrape"),
    ("encode_us", "its text"),
    ("view_us", "a view for the dashboard"),
];

/// One measurement: numbers by name.
type Point = BTreeMap<String, f64>;

pub fn measure(workspace: &Workspace) -> Result<String> {
    let printed = printed_by(workspace, "scale", &[])?;
    println!("{printed}");
    let points = parsed(&printed)?;
    let of = |name: &str| points.get(name).cloned().unwrap_or_default();
    let (apps, workers, day, hostile) = (of("apps"), of("workers"), of("day"), of("hostile"));
    picture::draw(
        &workspace.root.join("docs").join(PICTURE),
        &apps,
        &workers,
        &day,
    )?;
    let mut text = format!("![Costs against sizes, and memory over a day]({PICTURE})\n\n");
    sizes(&mut text, &apps, "apps of 10 workers and 200 routes")?;
    text.push('\n');
    sizes(&mut text, &workers, "workers of 10 apps with 20 routes")?;
    text.push('\n');
    over_time(&mut text, &day, &hostile)?;
    too_steep(&[("apps", &apps), ("workers", &workers)])?;
    Ok(text.trim_end().to_owned())
}

/// The points of each name, in order.
fn parsed(printed: &str) -> Result<BTreeMap<String, Vec<Point>>> {
    let mut points: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for line in printed.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().context("an empty line")?;
        let value = |word: &str| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let point: Option<Point> = words.map(value).collect();
        let point = point.with_context(|| format!("no measurement: {line}"))?;
        points.entry(name.to_owned()).or_default().push(point);
    }
    Ok(points)
}

fn value(point: &Point, name: &str) -> f64 {
    point.get(name).copied().unwrap_or(f64::NAN)
}

fn sizes(text: &mut String, points: &[Point], what: &str) -> Result<()> {
    writeln!(
        text,
        "| {what} | a record, µs | its allocations | memory, MiB | a look, ms | snapshot, ms | \
         its text, ms | … MB | a view, ms | … MB |\n|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for point in points {
        let of = |name| value(point, name);
        writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.1} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} |",
            of("x"),
            of("record_ns") / 1e3,
            of("allocations"),
            of("memory_bytes") / f64::from(1 << 20),
            of("look_us") / 1e3,
            of("snapshot_us") / 1e3,
            of("encode_us") / 1e3,
            of("scrape_bytes") / 1e6,
            of("view_us") / 1e3,
            of("view_bytes") / 1e6,
        )?;
    }
    let powers = COSTS.iter().map(|(name, shown)| {
        let power = exponent(points.iter().map(|it| (value(it, "x"), value(it, name))));
        format!("{shown} {power:.2}")
    });
    let powers: Vec<_> = powers.collect();
    writeln!(
        text,
        "\nThey grow with this power of the size: {}.",
        powers.join(", ")
    )?;
    Ok(())
}

fn over_time(text: &mut String, day: &[Point], hostile: &[Point]) -> Result<()> {
    let memory = |point: &Point| value(point, "memory_bytes") / f64::from(1 << 20);
    let at = |hour: f64| {
        let point = day.iter().find(|point| value(point, "x") >= hour);
        point.map_or(f64::NAN, memory)
    };
    let most = day.iter().map(memory).fold(0.0, f64::max);
    writeln!(
        text,
        "In a simulated day of 100 apps, 1,000 workers each of which lives an hour, and 8,640,000 \
         requests, of which each fiftieth is a scanner's, the model takes {:.1} MiB after one hour, \
         {:.1} after twelve and {:.1} after all; {most:.1} at the most.",
        at(1.0),
        at(12.0),
        at(24.0)
    )?;
    let hostile: Vec<String> = hostile
        .iter()
        .map(|point| {
            let millions = value(point, "x") / 1e6;
            format!("{:.2} MiB after {millions:.1} million", memory(point))
        })
        .collect();
    writeln!(
        text,
        "One worker of one app, each of whose requests has a path that never came before and any \
         method and status: {}.",
        hostile.join(", ")
    )?;
    Ok(())
}

fn too_steep(axes: &[(&str, &[Point])]) -> Result<()> {
    for (axis, points) in axes {
        for (name, shown) in COSTS {
            let power = exponent(points.iter().map(|it| (value(it, "x"), value(it, name))));
            if power > MOST {
                bail!("{shown} grows with the power {power:.2} of {axis}: more than linearly");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bench_prints_is_read() {
        let points = parsed("apps x=1 look_us=2.5\napps x=2 look_us=5\nday x=0.5\n").expect("fine");
        assert_eq!(points["apps"].len(), 2);
        assert_eq!(value(&points["apps"][1], "look_us").to_string(), "5");
        assert!(parsed("apps x=much\n").is_err());
    }

    #[test]
    fn what_grows_with_the_square_is_refused() {
        let point = |x: u32, y: u32| -> Point {
            [("x".to_owned(), x.into()), ("look_us".to_owned(), y.into())].into()
        };
        let linear: Vec<Point> = [1, 10, 100, 1000].map(|x| point(x, 50 + 3 * x)).into();
        let square: Vec<Point> = [1, 10, 100, 1000].map(|x| point(x, 50 + x * x)).into();
        assert!(too_steep(&[("apps", &linear)]).is_ok());
        assert!(too_steep(&[("apps", &square)]).is_err());
    }
}
