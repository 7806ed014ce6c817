//! The dashboard's files, embedded in the program.
//!
//! Owns: their names and types. Does not own: what they show; the files read it from `/api/v1`.
//! Rule: nothing is loaded from another host; the page works without internet access.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

/// A path, its type, its content.
type File = (&'static str, &'static str, &'static str);

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! script {
    ($name:literal) => {
        (
            concat!("/page/", $name),
            SCRIPT,
            include_str!(concat!("page/", $name)),
        )
    };
}

const FILES: &[File] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page/style.css",
        "text/css; charset=utf-8",
        include_str!("page/style.css"),
    ),
    (
        "/page/icon.svg",
        "image/svg+xml",
        include_str!("page/icon.svg"),
    ),
    script!("main.js"),
    script!("api.js"),
    script!("dom.js"),
    script!("format.js"),
    script!("charts.js"),
    script!("events.js"),
    script!("overview.js"),
    script!("job.js"),
    script!("history.js"),
    script!("plan.js"),
    script!("samples.js"),
    script!("versions.js"),
    script!("worker.js"),
];

/// The page and its files. They change only with the program, and a browser revalidates them each
/// time.
pub(super) fn routes() -> Router {
    FILES
        .iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            let response = ([(CONTENT_TYPE, *kind), (CACHE_CONTROL, "no-cache")], *text);
            router.route(path, get(move || async move { response.into_response() }))
        })
}
