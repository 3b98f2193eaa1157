//! The dashboard: static files in the binary.
//!
//! It loads nothing from other hosts, and its content security policy enforces that. Everything it
//! shows comes from `/api/v1/events`: see docs/API.md.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// Only files of this server, nothing inline, not in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A file of the dashboard.
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

/// The page at `/`, and its files below `/dashboard/`.
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
            // Another version of the daemon has other files.
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

    /// The texts from each `before` up to the next quote.
    fn named(text: &str, before: &str) -> Vec<String> {
        let parts = text.split(before).skip(1);
        parts
            .filter_map(|part| part.split('"').next())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_file_that_another_one_names_is_served() {
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
    fn no_script_or_style_is_inline_and_no_element_is_made_from_markup() {
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
}
