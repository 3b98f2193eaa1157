//! The dashboard: one page, and what it is made of, all in the binary.
//!
//! It takes nothing from elsewhere, and its policy says so to the browser. Everything it shows is
//! in `/api/v1/events`: see docs/API.md.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// Nothing but what is served here, nothing inline, and in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A part of the page.
#[derive(Clone, Copy)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        Asset {
            path: concat!("/dashboard/", $name),
            kind: $kind,
            text: include_str!(concat!("dashboard/", $name)),
        }
    };
}

const PAGE: Asset = Asset {
    path: "/",
    kind: "text/html; charset=utf-8",
    text: include_str!("dashboard/index.html"),
};

const ASSETS: [Asset; 18] = [
    PAGE,
    asset!("app.js", "text/javascript; charset=utf-8"),
    asset!("apps.js", "text/javascript; charset=utf-8"),
    asset!("charts.js", "text/javascript; charset=utf-8"),
    asset!("dom.js", "text/javascript; charset=utf-8"),
    asset!("ends.js", "text/javascript; charset=utf-8"),
    asset!("events.js", "text/javascript; charset=utf-8"),
    asset!("feed.js", "text/javascript; charset=utf-8"),
    asset!("findings.js", "text/javascript; charset=utf-8"),
    asset!("format.js", "text/javascript; charset=utf-8"),
    asset!("heatmap.js", "text/javascript; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("past.js", "text/javascript; charset=utf-8"),
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("table.js", "text/javascript; charset=utf-8"),
    asset!("tables.js", "text/javascript; charset=utf-8"),
    asset!("theme.js", "text/javascript; charset=utf-8"),
    asset!("time.js", "text/javascript; charset=utf-8"),
];

const VENDORED: [Asset; 2] = [
    asset!(
        "vendor/uplot/uPlot.iife.min.js",
        "text/javascript; charset=utf-8"
    ),
    asset!("vendor/uplot/uPlot.min.css", "text/css; charset=utf-8"),
];

/// The page at `/`, and its parts below `/dashboard/`.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS
        .into_iter()
        .chain(VENDORED)
        .fold(Router::new(), |router, asset| {
            router.route(asset.path, get(async move || asset.answer()))
        })
}

impl Asset {
    fn answer(self) -> impl IntoResponse + use<> {
        let headers = [
            (header::CONTENT_TYPE, self.kind),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            // Another version of the daemon has another page.
            (header::CACHE_CONTROL, "no-cache"),
        ];
        (headers, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Asset> {
        ASSETS.into_iter().chain(VENDORED)
    }

    /// What stands between quotes after one of these.
    fn named(text: &str, before: &str) -> Vec<String> {
        let parts = text.split(before).skip(1);
        parts
            .filter_map(|part| part.split('"').next())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn whatever_a_part_names_is_served() {
        let is_served = |path: &str| all().any(|asset| asset.path == path);
        let links = [named(PAGE.text, "src=\""), named(PAGE.text, "href=\"dash")].concat();
        assert!(links.len() >= 4, "{links:?}");
        for link in links {
            let link = link.strip_prefix("board/").unwrap_or(&link).to_owned();
            let link = link.strip_prefix("dashboard/").unwrap_or(&link).to_owned();
            assert!(is_served(&format!("/dashboard/{link}")), "{link}");
        }
        for asset in ASSETS {
            for module in named(asset.text, "from \"./") {
                assert!(
                    is_served(&format!("/dashboard/{module}")),
                    "{}: {module}",
                    asset.path
                );
            }
        }
    }

    #[test]
    fn nothing_is_inline_and_nothing_is_made_from_markup() {
        assert!(!POLICY.contains("unsafe"));
        for bad in [" style=\"", " onclick", " onload", "<style", "<script>"] {
            assert!(!PAGE.text.contains(bad), "{bad}");
        }
        for asset in ASSETS {
            for bad in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!asset.text.contains(bad), "{}: {bad}", asset.path);
            }
        }
    }

    #[test]
    fn each_kind_of_finding_is_explained() {
        let docs = include_str!("../../../docs/METRICS.md").replace('`', "\"");
        let section = docs.split("## Findings").nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        let kinds = named(section, "\n| \"");
        assert!(kinds.len() >= 8, "{kinds:?}");
        let page = include_str!("dashboard/findings.js");
        // The first is the head of the table.
        for kind in &kinds[1..] {
            assert!(page.contains(&format!("\n  {kind}: [")), "{kind}");
        }
    }
}
