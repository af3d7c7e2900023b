//! What one sees while the demo runs: two lines side by side, and what happens to the cluster just now.
//!
//! Invariant: without a terminal, or with `--json`, nothing is written. Deliberately absent: results.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::story::Chapter;
use super::table::time;
use crate::sim::client::legacy::load::Progress;

pub struct Lines {
    all: MultiProgress,
    pub story: Line,
    pub direct: Line,
    pub proxied: Line,
}

/// One line of it.
#[derive(Clone)]
pub struct Line {
    bar: ProgressBar,
    story: Vec<(Duration, String)>,
}

impl Lines {
    pub fn new(quiet: bool, chapters: &[Chapter]) -> Lines {
        let hidden = quiet || !std::io::stderr().is_terminal();
        let all = MultiProgress::with_draw_target(if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        let length_ms = chapters.last().map_or(0, |last| u64::try_from(last.until.as_millis()).unwrap_or(0));
        let line = |template: &str, prefix: &'static str| {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = all.add(ProgressBar::new(length_ms).with_style(style.progress_chars("━╸ ")).with_prefix(prefix));
            Line { bar, story: happenings(chapters) }
        };
        let story = line("  {msg}", "");
        let direct = line("  {prefix:16} {bar:24.yellow} {msg}", "direct");
        let proxied = line("  {prefix:16} {bar:24.blue} {msg}", "through Evenkeel");
        Lines { all, story, direct, proxied }
    }

    pub fn clear(&self) {
        [&self.story, &self.direct, &self.proxied].iter().for_each(|line| line.bar.finish_and_clear());
        // A terminal that is gone does not matter any more.
        let _ = self.all.clear();
    }
}

impl Line {
    /// How far the load is.
    pub fn show(&self, progress: &Progress) {
        self.bar.set_position(u64::try_from(progress.elapsed.as_millis()).unwrap_or(u64::MAX));
        let is_waiting = progress.waiting >= Duration::from_millis(100);
        let waiting = if is_waiting { format!(", waiting {}", time(progress.waiting)) } else { String::new() };
        self.bar.set_message(format!("{:>6} acknowledged{waiting}", progress.acknowledged));
    }

    /// What happens at this moment.
    pub fn tell(&self, elapsed: Duration) {
        let now = self.story.iter().rev().find(|(at, _)| *at <= elapsed).map_or("", |(_, what)| what);
        self.bar.set_message(format!("{:>2} s  {now}", elapsed.as_secs()));
    }
}

fn happenings(chapters: &[Chapter]) -> Vec<(Duration, String)> {
    let mut all = Vec::new();
    for chapter in chapters {
        let title = chapter.scenario.title();
        all.push((chapter.from, format!("{title}: {}", chapter.scenario.explanation())));
        all.extend(chapter.marks.iter().map(|mark| (mark.at, format!("{title}: {}", mark.label))));
    }
    all
}
