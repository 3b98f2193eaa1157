//! The rules and dashboards of `deploy`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The shorter window of all rules: scrapes are a second apart.
const WINDOW: &str = "[15s]";
/// Variables of a dashboard, with Grafana's values when everything is chosen.
const VARIABLES: [(&str, &str); 6] = [
    ("[$__rate_interval]", WINDOW),
    ("$namespace", ".*"),
    ("$app", ".*"),
    ("$worker_class", ".*"),
    ("$instance", ".*"),
    ("$worker_pid", ".*"),
];

/// The folder of `deploy`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The folder of rules and their tests.
#[must_use]
pub fn rules() -> PathBuf {
    folder().join("prometheus")
}

/// Files of a folder with this ending, in order.
pub fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()));
    let paths = entries?.filter_map(|entry| Some(entry.ok()?.path()));
    let has_it = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    let mut paths: Vec<_> = paths.filter(has_it).collect();
    paths.sort_unstable();
    ensure!(!paths.is_empty(), "nothing in {}", folder.display());
    Ok(paths)
}

/// The text of each file of rules, with short windows.
pub fn hastened_rules() -> Result<Vec<String>> {
    let texts = files(&rules(), "yml")?.into_iter().map(fs::read_to_string);
    texts.map(|text| Ok(hastened(&text?))).collect()
}

/// Windows of fifteen seconds, and alerts after one second; nothing else changes.
fn hastened(rules: &str) -> String {
    let line = |line: &str| {
        let (indent, text) = line.split_at(line.len() - line.trim_start().len());
        match text.strip_prefix("for: ") {
            Some("0s") | None => with_windows(line),
            Some(_) => format!("{indent}for: 1s"),
        }
    };
    rules.lines().map(|text| line(text) + "\n").collect()
}

/// Replaces the duration in each pair of brackets.
fn with_windows(line: &str) -> String {
    let mut changed = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        changed.push_str(before);
        match after.split_once(']') {
            Some((inside, after)) if inside.starts_with(|c: char| c.is_ascii_digit()) => {
                changed.push_str(WINDOW);
                rest = after;
            }
            _ => {
                changed.push('[');
                rest = after;
            }
        }
    }
    changed + rest
}

/// A query of a dashboard, in Prometheus' form.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its file, and its panel or variable.
    pub of: String,
    pub query: String,
}

/// Every query of every dashboard, with everything chosen.
pub fn dashboard_queries() -> Result<Vec<Query>> {
    let mut all = Vec::new();
    for path in files(&folder().join("grafana"), "json")? {
        let text = fs::read_to_string(&path)?;
        let dashboard: Value =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for panel in list(&dashboard["panels"]) {
            for target in list(&panel["targets"]) {
                let query = target["expr"]
                    .as_str()
                    .context("a target without a query")?;
                all.push(chosen(format!("{file}: {}", panel["title"]), query)?);
            }
        }
        for variable in list(&dashboard["templating"]["list"]) {
            // The data source is none.
            let Some(query) = variable["query"]["query"].as_str() else {
                continue;
            };
            let of = format!("{file}: {}", variable["name"]);
            let arguments = query.strip_prefix("label_values(");
            let arguments = arguments.and_then(|text| text.strip_suffix(')'));
            let (series, label) = arguments
                .and_then(|text| text.rsplit_once(", "))
                .with_context(|| of.clone())?;
            all.push(chosen(of, &format!("count by ({label}) ({series})"))?);
        }
    }
    Ok(all)
}

fn chosen(of: String, query: &str) -> Result<Query> {
    let query = VARIABLES
        .iter()
        .fold(query.to_owned(), |query, (variable, value)| {
            query.replace(variable, value)
        });
    ensure!(!query.contains('$'), "{of}: unknown variable in {query}");
    Ok(Query { of, query })
}

#[cfg(test)]
mod tests {
    use super::hastened;

    #[test]
    fn rules_that_hurry_differ_in_windows_and_waits_only() {
        let rules = "- alert: A\n  expr: sum(rate(a{b=~\"[0-9]\"}[5m])) / b[1h] > 3\n  for: 0s\n\
                     \x20 keep_firing_for: 5m\n- alert: B\n  for: 10m\n";
        let expected = "- alert: A\n  expr: sum(rate(a{b=~\"[15s]\"}[15s])) / b[15s] > 3\n  for: 0s\n\
                        \x20 keep_firing_for: 5m\n- alert: B\n  for: 1s\n";
        assert_ne!(hastened(rules), rules);
        // No rule has such a matcher; it would be taken for a window.
        assert_eq!(hastened(rules), expected);
    }
}
