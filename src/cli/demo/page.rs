//! The picture, the table and what they mean, as one HTML page.
//!
//! Invariant: it needs nothing but itself. Deliberately absent: scripts.

use std::fmt::Write;

use super::Performance;
use super::story::{Chapter, SESSION_TIMEOUT};
use super::table::{HEADINGS, cells};

const STYLE: &str = "
:root{color-scheme:light dark}body{margin:0 auto;max-width:1080px;padding:24px;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;
background:#fff;color:#1f2328}svg{width:100%;height:auto;display:block}table{border-collapse:collapse;width:100%;margin:16px 0;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid #e4e7eb}th{font-weight:600}
th:nth-child(-n+2),td:nth-child(-n+2){text-align:left}tr.even td{border-bottom-color:#8b949e}td:first-child{font-weight:600}p{max-width:75ch}
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#f0f3f6}th,td{border-color:#262c34}}
";

/// What the departures were and what the numbers are.
pub fn in_words(chapters: &[Chapter]) -> String {
    let mut words = String::new();
    for chapter in chapters {
        let _ = writeln!(words, "{}: {}.", chapter.scenario.title(), chapter.scenario.explanation());
    }
    let _ = write!(words, "Latency: from the moment at which a record was due to its acknowledgement.");
    if chapters.iter().any(|chapter| chapter.leaderless.is_some()) {
        let _ = write!(
            words,
            "\nIn the crash the cluster itself has no leader for {} s (its session timeout here; Kafka's default is 9 s): nothing between \
             can be faster.",
            SESSION_TIMEOUT.as_secs()
        );
    }
    words
}

pub fn html(performance: &Performance, picture: &str) -> String {
    let mut rows = String::new();
    for row in performance.rows() {
        for (class, title, way, verdict) in
            [("direct", row.chapter.scenario.title(), "direct", row.direct), ("even", "", "through Evenkeel", row.proxied)]
        {
            let cells: String = cells(title, way, verdict).iter().map(|cell| format!("<td>{cell}</td>")).collect();
            let _ = writeln!(rows, "<tr class=\"{class}\">{cells}</tr>");
        }
    }
    let headings: String = HEADINGS.iter().map(|heading| format!("<th>{heading}</th>")).collect();
    let words: String = in_words(&performance.chapters).lines().map(|line| format!("<p>{line}</p>\n")).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Evenkeel: produce latency while brokers leave</title><style>{STYLE}</style></head>\n<body>\n{picture}\
         <table><thead><tr>{headings}</tr></thead><tbody>\n{rows}</tbody></table>\n{words}\
         <p>The client is a model of franz-go 1.17.0's producer, by its rules; the clusters are simulated, with Kafka's wire format over real \
         sockets. Seed {seed}; made by <code>evenkeel demo</code> {version}.</p>\n</body></html>\n",
        seed = performance.summary.seed,
        version = env!("CARGO_PKG_VERSION"),
    )
}
