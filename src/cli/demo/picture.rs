//! Latency over time, both ways and the departures, as one SVG.
//!
//! Written by hand: `plotters`' SVG backend writes colours into every element (no classes, so no dark mode), has no text but axis labels
//! that one could place between curves, and makes a chart of equal ticks where this one has chapters. What is needed is two scales and
//! a few lines. Invariant: it stands alone (no fonts, scripts or styles from elsewhere) and is readable on a light and a dark page.
//! Deliberately absent: averaging; each point is the worst record of its twentieth of a second.

use std::fmt::Write;
use std::time::Duration;

use super::story::Chapter;
use super::table::{Row, time};
use crate::sim::client::legacy::load::Sample;

/// What is drawn.
pub struct Picture<'a> {
    pub rows: Vec<Row<'a>>,
    pub direct: &'a [Vec<Sample>],
    pub proxied: &'a [Vec<Sample>],
    pub records_per_second: u32,
}

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 190.0;
const BOTTOM: f64 = 54.0;
const BUCKET: Duration = Duration::from_millis(50);

/// Plain colours, repeated for the dark page: custom properties are unknown to most viewers that are not browsers.
const STYLE: &str = "
.ek{font-family:system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}
.ek text{fill:#59636e;font-size:13px}.ek .small{font-size:12px}.ek .big{font-size:19px}
.ek .title{fill:#1f2328;font-size:21px;font-weight:600}.ek .head{fill:#1f2328;font-size:15px;font-weight:600}
.ek .page{fill:#ffffff}.ek .band{fill:#f6f8fa}.ek .grid{stroke:#e1e5ea}.ek .mark{stroke:#8b949e;stroke-dasharray:2 3}
.ek .direct,.ek .even,.ek .gap{fill:none;stroke-width:2;stroke-linejoin:round}.ek .even{stroke-width:2.5}
.ek .direct{stroke:#c2410c}.ek .even{stroke:#0b66c3}.ek .gap{stroke:#1f2328;stroke-width:1.5;stroke-dasharray:6 4}
.ek .direct-area{fill:#c2410c;opacity:.13}.ek .even-area{fill:#0b66c3;opacity:.22}
.ek .t-direct{fill:#c2410c;font-weight:600}.ek .t-even{fill:#0b66c3;font-weight:600}
@media (prefers-color-scheme:dark){.ek text{fill:#9aa4af}.ek .title,.ek .head{fill:#f0f3f6}
.ek .page{fill:#0d1117}.ek .band{fill:#151b23}.ek .grid{stroke:#2a313a}.ek .mark{stroke:#6e7681}
.ek .direct{stroke:#ff9447}.ek .even{stroke:#58a6ff}.ek .gap{stroke:#f0f3f6}
.ek .direct-area{fill:#ff9447}.ek .even-area{fill:#58a6ff}.ek .t-direct{fill:#ff9447}.ek .t-even{fill:#58a6ff}}
";

/// The worst latency of each bucket of due times, in seconds; none where nothing was due.
fn worst(samples: &[Vec<Sample>], length: Duration) -> Vec<Option<f64>> {
    let count = usize::try_from(length.as_millis().div_ceil(BUCKET.as_millis())).unwrap_or(0);
    let mut worst: Vec<Option<f64>> = vec![None; count];
    // What was never acknowledged had waited until the end at least.
    let end = samples.iter().flatten().filter_map(|sample| sample.acknowledged).max().unwrap_or(length);
    for sample in samples.iter().flatten() {
        let bucket = usize::try_from(sample.due.as_millis() / BUCKET.as_millis()).unwrap_or(usize::MAX);
        let latency = sample.acknowledged.unwrap_or(end).saturating_sub(sample.due).as_secs_f64();
        if let Some(known) = worst.get_mut(bucket) {
            *known = Some(known.map_or(latency, |known: f64| known.max(latency)));
        }
    }
    worst
}

/// Where things lie.
struct Scales {
    seconds: f64,
    latency_max: f64,
}

impl Scales {
    fn x(&self, at: Duration) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * at.as_secs_f64() / self.seconds
    }

    fn y(&self, latency: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - latency / self.latency_max)
    }
}

/// The whole picture.
pub fn svg(picture: &Picture<'_>) -> String {
    let length = picture.rows.last().map_or(Duration::from_secs(1), |row| row.chapter.until);
    let (direct, proxied) = (worst(picture.direct, length), worst(picture.proxied, length));
    let peak = direct.iter().chain(&proxied).flatten().copied().fold(0.0, f64::max);
    let scales = Scales { seconds: length.as_secs_f64(), latency_max: (peak * 1.04).max(0.5) };
    let mut out = String::with_capacity(64 * 1024);
    let parts = [
        opening(picture),
        bands(&picture.rows, &scales),
        grid(&scales),
        curve("direct", &direct, &scales),
        curve("even", &proxied, &scales),
        limits(&picture.rows, &scales),
        headings(&picture.rows, &scales),
        "</svg>\n".to_owned(),
    ];
    parts.iter().for_each(|part| out.push_str(part));
    out
}

fn opening(picture: &Picture<'_>) -> String {
    let told = picture.rows.iter().map(|row| {
        let [direct, proxied] = [row.direct.max_us, row.proxied.max_us].map(|us| time(Duration::from_micros(us)));
        format!("{}: {direct} direct, {proxied} through Evenkeel", row.chapter.scenario.title())
    });
    let has_gap = picture.rows.iter().any(|row| row.chapter.leaderless.is_some());
    let gap = if has_gap {
        let line = "<path class=\"gap\" d=\"M344 83h26\"/>";
        format!("{line}<text x=\"378\" y=\"88\">the least that the cluster allows: it has no leader yet</text>")
    } else {
        String::new()
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"ek\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"ek-t ek-d\">\
         <title id=\"ek-t\">Produce latency while brokers leave</title><desc id=\"ek-d\">Worst latency: {told}.</desc><style>{STYLE}</style>\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\
         <text class=\"title\" x=\"24\" y=\"38\">Produce latency while brokers leave</text>\
         <text x=\"24\" y=\"60\">A model of franz-go 1.17.0 (idempotent, acks=all), {rate} records/s to a simulated cluster; each point is the worst record of 50 ms</text>\
         <path class=\"direct\" d=\"M24 83h26\"/><text class=\"t-direct\" x=\"58\" y=\"88\">direct</text>\
         <path class=\"even\" d=\"M128 83h26\"/><text class=\"t-even\" x=\"162\" y=\"88\">through Evenkeel</text>{gap}",
        told = told.collect::<Vec<_>>().join("; "),
        rate = picture.records_per_second,
    )
}

fn bands(rows: &[Row<'_>], scales: &Scales) -> String {
    let band = |chapter: &Chapter| {
        let (from, until) = (scales.x(chapter.from) + 2.0, scales.x(chapter.until) - 2.0);
        format!(
            "<rect class=\"band\" x=\"{from:.1}\" y=\"104\" width=\"{:.1}\" height=\"{:.1}\" rx=\"4\"/>",
            until - from,
            HEIGHT - BOTTOM - 104.0
        )
    };
    rows.iter().map(|row| band(row.chapter)).collect()
}

fn grid(scales: &Scales) -> String {
    let mut out = String::new();
    let step = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0].into_iter().find(|step| scales.latency_max / step <= 6.0).unwrap_or(20.0);
    let mut latency = 0.0;
    while latency <= scales.latency_max {
        let y = scales.y(latency);
        let label = if latency == 0.0 { "0".to_owned() } else { format!("{} s", (latency * 10.0_f64).round() / 10.0) };
        let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/>", WIDTH - RIGHT);
        let _ = write!(out, "<text class=\"small\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0, y + 4.0);
        latency += step;
    }
    for second in (0..).step_by(5).take_while(|second| f64::from(*second) <= scales.seconds) {
        let x = scales.x(Duration::from_secs(u64::try_from(second).unwrap_or(0)));
        let _ = write!(out, "<text class=\"small\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{second}</text>", HEIGHT - BOTTOM + 20.0);
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = write!(
        out,
        "<text class=\"small\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">seconds; a record stands where it was due</text>",
        HEIGHT - 14.0
    );
    let _ = write!(
        out,
        "<text class=\"small\" transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">until acknowledged</text>",
        (TOP + HEIGHT - BOTTOM) / 2.0
    );
    out
}

fn curve(class: &str, worst: &[Option<f64>], scales: &Scales) -> String {
    let mut line = String::new();
    let mut ends = (None, 0.0);
    for (bucket, latency) in (0_u32..).zip(worst) {
        let Some(latency) = latency else { continue };
        let (x, y) = (scales.x(BUCKET * bucket), scales.y(*latency));
        let _ = write!(line, "{}{x:.1} {y:.1}", if line.is_empty() { "M" } else { "L" });
        ends = (ends.0.or(Some(x)), x);
    }
    let (Some(first), last) = ends else { return String::new() };
    let floor = scales.y(0.0);
    format!("<path class=\"{class}-area\" d=\"{line}L{last:.1} {floor:.1}L{first:.1} {floor:.1}Z\"/><path class=\"{class}\" d=\"{line}\"/>")
}

/// A record that is due while there is no leader waits until there is one: a straight line down to that moment.
fn limits(rows: &[Row<'_>], scales: &Scales) -> String {
    let gaps = rows.iter().filter_map(|row| row.chapter.leaderless);
    let line = |(from, until): (Duration, Duration)| {
        let longest = (until - from).as_secs_f64();
        let (x, y) = (scales.x(from), scales.y(longest));
        format!("<path class=\"gap\" d=\"M{x:.1} {:.1}V{y:.1}L{:.1} {:.1}\"/>", scales.y(0.0), scales.x(until), scales.y(0.0))
    };
    gaps.map(line).collect()
}

fn headings(rows: &[Row<'_>], scales: &Scales) -> String {
    let mut out = String::new();
    for row in rows {
        let chapter = row.chapter;
        let x = scales.x(chapter.from) + 14.0;
        let [direct, proxied] = [row.direct.max_us, row.proxied.max_us].map(|us| time(Duration::from_micros(us)));
        let _ = write!(out, "<text class=\"head\" x=\"{x:.1}\" y=\"128\">{}</text>", capitalised(chapter.scenario.title()));
        let _ = write!(
            out,
            "<text x=\"{x:.1}\" y=\"152\">worst <tspan class=\"t-direct big\">{direct}</tspan> \u{2192} <tspan class=\"t-even big\">{proxied}</tspan></text>"
        );
        for (index, mark) in chapter.marks.iter().enumerate() {
            let x = scales.x(mark.at);
            // What begins a departure stands before its line, what follows behind: so that neighbours do not touch.
            let (anchor, text_x) = if index == 0 { ("end", x - 5.0) } else { ("start", x + 5.0) };
            let _ = write!(out, "<path class=\"mark\" d=\"M{x:.1} 168V{:.1}\"/>", scales.y(0.0));
            let _ = write!(out, "<text class=\"small\" x=\"{text_x:.1}\" y=\"178\" text-anchor=\"{anchor}\">{}</text>", mark.label);
        }
    }
    out
}

fn capitalised(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::judge::Verdict;
    use crate::cli::demo::story::{self, Scenario};

    fn sample(due_ms: u64, took_ms: Option<u64>) -> Sample {
        let due = Duration::from_millis(due_ms);
        Sample { due, acknowledged: took_ms.map(|took| due + Duration::from_millis(took)) }
    }

    #[test]
    fn a_bucket_shows_its_worst_record_and_an_open_one_until_the_end() {
        let samples =
            vec![vec![sample(0, Some(5)), sample(20, Some(80)), sample(120, None)], vec![sample(40, Some(9)), sample(130, Some(1_000))]];
        let worst = worst(&samples, Duration::from_millis(200));
        assert_eq!(worst, [Some(0.08), None, Some(1.01), None]);
    }

    #[test]
    fn the_picture_stands_alone_and_tells_both_ways() {
        let chapters = story::chapters(&Scenario::ALL);
        let verdict = |max_us| Verdict { max_us, ..Verdict::default() };
        let (slow, fast) = (verdict(4_634_000), verdict(14_000));
        let rows = chapters.iter().map(|chapter| Row { chapter, direct: &slow, proxied: &fast }).collect();
        let samples = |took| vec![(0..400).map(|at| sample(at * 100, Some(took))).collect::<Vec<_>>()];
        let (direct, proxied) = (samples(4_634), samples(14));
        let svg = svg(&Picture { rows, direct: &direct, proxied: &proxied, records_per_second: 1_000 });
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"));
        for word in ["Scale-in", "Rolling restart", "Crash", "4.63 s", "14 ms", "prefers-color-scheme:dark"] {
            assert!(svg.contains(word), "{word}");
        }
        assert_eq!(svg.matches("http").count(), 1, "nothing from elsewhere");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
